"""What a viewer of the live page wants to see: which connections, in which order."""

from __future__ import annotations

import urllib.parse
from dataclasses import asdict, dataclass
from typing import Any, Self

#: What connections may be sorted by: keys of `figures.describe`.
SORTS = (
    "seconds", "peer", "via", "tls", "waits_for", "bytes_in", "bytes_out", "rate_in", "rate_out",
)  # fmt: skip

#: What stands for None, in the order: it comes before all others.
NOTHING: dict[str, Any] = {"via": "", "tls": "", "rate_in": -1.0, "rate_out": -1.0}

#: Rows of a page, at most: more is no page, and would take long to make.
MAX_ROWS = 500

# How many rows may stand before a page: the workers send these, too, for the pages to be cut.
MAX_FIRST = 1_000_000

#: Characters of a filter: more than any address has.
MAX_FILTER = 100


@dataclass(frozen=True)
class LiveQuery:
    """Which connections are to be shown."""

    #: One of `SORTS`; and whether the largest come first.
    sort: str = "seconds"
    descending: bool = True
    #: Show only connections one of whose texts has this in it, in any case.
    filter: str = ""
    #: The index of the first row of the page, and how many rows it has at most.
    first: int = 0
    most: int = 50
    #: Whether somebody looks: then the steps of the loop are timed for a few seconds to come.
    watch: bool = True

    @classmethod
    def parse(cls, query: str) -> Self:
        """From the query of a URL: ``sort=rate_in&order=desc&filter=10.0&first=50&most=50``. Other
        names are left to others. Raises ValueError, with what is wrong."""
        given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        sort = given.get("sort", cls.sort)
        if sort not in SORTS:
            raise ValueError(f"sort: expected one of {', '.join(SORTS)}")
        order = given.get("order", "desc")
        if order not in ("asc", "desc"):
            raise ValueError("order: expected asc or desc")
        text = given.get("filter", "").strip()
        if len(text) > MAX_FILTER:
            raise ValueError(f"filter: expected at most {MAX_FILTER} characters")
        return cls(
            sort=sort,
            descending=order == "desc",
            filter=text.casefold(),
            first=whole_number("first", given.get("first", "0"), MAX_FIRST),
            most=whole_number("most", given.get("most", str(cls.most)), MAX_ROWS),
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it; ``LiveQuery(**found)`` is the same again."""
        return asdict(self)

    def place(self, row: dict[str, Any]) -> tuple[Any, float]:
        """The place of `row` in the order; of equals, the oldest comes first."""
        value = row[self.sort]
        if value is None:
            value = NOTHING[self.sort]
        return value, row["seconds"] if self.descending else -row["seconds"]

    def page(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The page, of all `rows`."""
        ordered = sorted(rows, key=self.place, reverse=self.descending)
        return ordered[self.first : self.first + self.most]


def whole_number(name: str, text: str, most: int) -> int:
    """The number in `text`, from 0 to `most`. Raises ValueError, with what is wrong."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise ValueError(f"{name}: expected a number up to {most}")
    return int(text)
