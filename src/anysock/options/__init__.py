"""The options of a server: declared once, for the command line, the environment and the library.

- `serve`: `ServeOptions`, the declarations;
- `values`: how each kind of value is read; `units`: durations, sizes and rates among them;
- `checks`: which options make no sense together;
- `keywords`: the same as keywords of `anysock.serve`;
- `texts`: help and reference, made from the declarations.
"""
