"""How results are shown: `text` for a terminal, `pages` for a browser; `sheets` are the tables of
a terminal, `wording` writes figures."""
