"""What the live page and `anysock top` are told: one JSON document, once or again and again."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from anysock.admin.figures import Figures
from anysock.admin.history import History
from anysock.admin.query import LiveQuery
from anysock.engines.current import current_engine

#: Of the document. It rises when a field goes or means something else; new ones may come.
VERSION = 1

#: Seconds between two documents of a feed.
EVERY_SECONDS = 1.0


class Live:
    """Makes the documents. `write`: whether a viewer may end connections, and the server."""

    def __init__(self, figures: Figures, history: History, *, write: bool) -> None:
        self._figures = figures
        self._history = history
        self._write = write

    def document(self, query: LiveQuery, since: float | None) -> dict[str, Any]:
        """What there is now, with the history after `since`, in seconds since 1970 (None: without
        one)."""
        self._history.watched()
        found = self._figures.live(query)
        document = {
            "version": VERSION,
            "time": round(current_engine().time(), 3),
            "ready": self._figures.ready(),
            "write": self._write,
            "figures": found["figures"],
            "workers": found["workers"],
            "held_up": found["held_up"],
            "open": found["open"],
            "matching": found["matching"],
            "first": query.first,
            "connections": query.page(found["rows"]) if query.most else [],
        }
        if since is not None:
            document["history"] = self._history.since(since)
        return document


class Feed:
    """An answer that does not end: documents, as server-sent events (HTML standard, section
    9.2)."""

    def __init__(self, live: Live, query: LiveQuery) -> None:
        self._live = live
        self._query = query
        self._since = 0.0

    def next(self) -> bytes:
        """The next event."""
        document = self._live.document(self._query, self._since)
        if document["history"]:
            self._since = document["history"][-1]["time"]
        return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def since_of(query: str) -> float | None:
    """The ``since`` of the query of a URL; None: there is none. Raises ValueError."""
    found = urllib.parse.parse_qs(query).get("since")
    if found is None:
        return None
    try:
        since = float(found[-1])
    except ValueError:
        raise ValueError("since: expected seconds since 1970") from None
    if since != since:  # noqa: PLR0124
        raise ValueError("since: expected seconds since 1970")
    return since
