"""A trace as a page: one file with all in it, which a browser shows without a network."""

from __future__ import annotations

import html
import importlib.resources
import json
from collections.abc import Sequence

from anysock.traces.format import Line

_PARTS = {"css": "viewer.css", "js": "viewer.js"}


def trace_page(head: Line, events: Sequence[Line]) -> str:
    """The page of a trace, as `format.read` gives it."""
    data = json.dumps({"head": head, "events": events}, separators=(",", ":"))
    parts = {name: _file(file) for name, file in _PARTS.items()}
    # Within a script, nothing but "</" and "<!--" means anything to a parser of HTML.
    parts |= {"title": html.escape(str(head["title"])), "data": data.replace("<", "\\u003c")}
    found, *pieces = _file("index.html").split("@")
    # Every other piece is the name of a part.
    for number, piece in enumerate(pieces):
        found += parts[piece] if number % 2 == 0 else piece
    return found


def _file(name: str) -> str:
    return importlib.resources.files("anysock.traces").joinpath("viewer", name).read_text("utf-8")
