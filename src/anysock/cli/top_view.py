"""What `anysock top` shows, and how keys change it; without a terminal or a network."""

from __future__ import annotations

import collections
import enum
from dataclasses import dataclass, field
from typing import Any

from anysock.admin.query import MAX_FILTER, MAX_ROWS

#: What can be sorted by, in the order of the columns; and what a heading says.
SORTS = {
    "peer": "PEER",
    "via": "VIA",
    "tls": "TLS",
    "seconds": "AGE",
    "bytes_in": "IN",
    "bytes_out": "OUT",
    "rate_in": "IN/S",
    "rate_out": "OUT/S",
    "waits_for": "WAITS FOR",
}
TEXTS = ("peer", "via", "tls", "waits_for")

# Samples that are kept for the curves: ten minutes.
_KEPT = 600


class Mode(enum.Enum):
    """What the keys are for."""

    TABLE = enum.auto()
    FILTER = enum.auto()
    DETAIL = enum.auto()
    CONFIRM = enum.auto()
    HELP = enum.auto()


class Wish(enum.Enum):
    """What is to be done about a key, besides drawing anew."""

    NOTHING = enum.auto()
    ASK = enum.auto()
    END = enum.auto()
    QUIT = enum.auto()


@dataclass
class View:
    """What is shown, and the last that was told."""

    sort: str = "rate_in"
    descending: bool = True
    filter: str = ""
    #: How many rows fit.
    room: int = 20
    first: int = 0
    #: The place of the chosen row on the page, and the ID of its connection.
    place: int = 0
    chosen: str | None = None
    mode: Mode = Mode.TABLE
    frozen: bool = False
    document: dict[str, Any] | None = None
    samples: collections.deque[dict[str, Any]] = field(
        default_factory=lambda: collections.deque(maxlen=_KEPT)
    )
    #: What went wrong last, for the line at the top.
    trouble: str = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.document["connections"] if self.document else []

    @property
    def row(self) -> dict[str, Any] | None:
        """The chosen connection, while it is on the page."""
        return next((row for row in self.rows if row["id"] == self.chosen), None)

    def query(self) -> dict[str, Any]:
        """What to ask the endpoint for."""
        return {
            "sort": self.sort,
            "order": "desc" if self.descending else "asc",
            "filter": self.filter,
            "first": self.first,
            "most": min(self.room, MAX_ROWS),
            "since": self.samples[-1]["time"] if self.samples else 0,
        }

    def told(self, document: dict[str, Any]) -> bool:
        """Take what was told. Return whether to ask again: the page is behind the last row."""
        self.trouble = ""
        self.samples.extend(document.get("history", ()))
        if self.frozen:
            return False
        self.document = document
        if self.row is not None:
            self.place = self.rows.index(self.row)
        elif self.mode is Mode.CONFIRM:
            self.mode = Mode.TABLE  # it has ended: there is nothing to confirm
        # (The detail stays, and says that it has ended.)
        if self.mode is not Mode.DETAIL:
            self._choose(self.place)
        if not self.rows and self.first:
            self.first = 0
            return True
        return False

    def _choose(self, place: int) -> None:
        self.place = max(min(place, len(self.rows) - 1), 0)
        self.chosen = self.rows[self.place]["id"] if self.rows else None

    # -- keys ------------------------------------------------------------------------------------

    def press(self, key: str) -> Wish:
        """A key was pressed."""
        match self.mode:
            case Mode.FILTER:
                return self._press_in_filter(key)
            case Mode.CONFIRM:
                self.mode = Mode.TABLE
                return Wish.END if key in ("y", "Y") else Wish.NOTHING
            case Mode.DETAIL | Mode.HELP if key != "e":
                self.mode = Mode.TABLE
                return Wish.QUIT if key == "q" else Wish.NOTHING
        return self._press_in_table(key)

    def _press_in_filter(self, key: str) -> Wish:
        if key in ("enter", "escape"):
            self.mode = Mode.TABLE
            if key == "enter" or not self.filter:
                return Wish.NOTHING
            self.filter = ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.filter) < MAX_FILTER:
            self.filter += key
        else:
            return Wish.NOTHING
        self.first = 0
        return self._ask()

    def _press_in_table(self, key: str) -> Wish:  # noqa: PLR0911
        match key:
            case "q":
                return Wish.QUIT
            case "up" | "k" | "down" | "j" | "page up" | "page down" | "home" | "end":
                return self._move(key)
            case "<" | ">" | "s":
                names = list(SORTS)
                step = -1 if key == "<" else 1
                self.sort = names[(names.index(self.sort) + step) % len(names)]
                self.descending = self.sort not in TEXTS
                self.first = self.place = 0
                self.chosen = None
                return self._ask()
            case "r":
                self.descending = not self.descending
                self.first = self.place = 0
                self.chosen = None
                return self._ask()
            case "/":
                self.mode = Mode.FILTER
            case "p" | " ":
                self.frozen = not self.frozen
                return Wish.NOTHING if self.frozen else Wish.ASK
            case "enter" if self.row is not None:
                self.mode = Mode.DETAIL
            case "e" if self.row is not None:
                self.mode = Mode.CONFIRM
            case "?" | "h":
                self.mode = Mode.HELP
            case "escape" if self.filter:
                self.filter = ""
                self.first = 0
                return self._ask()
        return Wish.NOTHING

    def _move(self, key: str) -> Wish:
        if key == "home":
            self._choose(0)
            self.first, moved = 0, self.first != 0
            return self._ask() if moved else Wish.NOTHING
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "end": len(self.rows)}
        if key in steps:
            place = self.place + steps[key]
            if 0 <= place < len(self.rows) or key == "end":
                self._choose(place)
                return Wish.NOTHING
            key = "page up" if steps[key] < 0 else "page down"
        matching = self.document["matching"] if self.document else 0
        if key == "page up" and self.first:
            self.first = max(self.first - self.room, 0)
            self.place = self.room - 1
        elif key == "page down" and self.first + len(self.rows) < matching:
            self.first += self.room
            self.place = 0
        else:
            self._choose(0 if key == "page up" else len(self.rows) - 1)
            return Wish.NOTHING
        self.chosen = None
        return self._ask()

    def _ask(self) -> Wish:
        """What was asked for must be shown."""
        self.frozen = False
        return Wish.ASK
