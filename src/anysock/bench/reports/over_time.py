"""How a load came about, interval by interval: the part of its page that is drawn over time."""

from __future__ import annotations

import collections
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.reports.charts import Cells, Chart
from anysock.bench.series import Interval, cell_edges

# More would not fit on a screen, nor into a page that is to be sent to somebody.
_MOST_DRAWN = 1000

_PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")


@dataclass(frozen=True)
class _Piece:
    """An interval, `offset` seconds into all that is shown. The first of a step has its `mark`."""

    interval: Interval
    offset: float
    mark: str
    plan: Plan

    @property
    def begin(self) -> float:
        return self.offset + self.interval.begin

    @property
    def end(self) -> float:
        return self.offset + self.interval.end

    @property
    def rates(self) -> dict[str, float]:
        """What is drawn as throughput, by name."""
        if self.plan.one_way:
            return self.interval.flows(self.plan)
        return {"messages": self.interval.rate}

    @property
    def errors(self) -> str:
        found = sorted(self.interval.errors.items())
        return ", ".join(f"{count:,} × {kind}" for kind, count in found)


def over_time(steps: Iterable[tuple[str, Outcome]]) -> list[str]:
    """Throughput, percentiles and a heat map of all `steps`, one after the other, each with its
    mark."""
    told = _pieces(steps)
    if not told:
        return []
    together = math.ceil(len(told) / _MOST_DRAWN)
    pieces = _pooled(told, together)
    note = "There was no error in any interval."
    if bad := sum(bool(piece.interval.errors) for piece in told):
        note = f"A cross is where there were errors (in {bad:,} of {len(told):,} intervals)."
    if together > 1:
        note += (
            f" A point stands for up to {together} intervals: for the highest of each of their "
            "percentiles, and of the rest for the sum."
        )
    return [
        "<h2>Over time</h2>",
        f"<p class=note>{html.escape(note)}</p>",
        *(chart.html() for chart in _charts(pieces)),
    ]


def _pieces(steps: Iterable[tuple[str, Outcome]]) -> list[_Piece]:
    """The intervals of all steps, one after the other."""
    pieces: list[_Piece] = []
    offset = 0.0
    for mark, outcome in steps:
        for number, interval in enumerate(outcome.intervals):
            pieces.append(_Piece(interval, offset, "" if number else mark, outcome.plan))
        offset = pieces[-1].end if pieces else 0.0
    return pieces


def _pooled(pieces: Sequence[_Piece], together: int) -> list[_Piece]:
    """So many pieces as one; but none of two steps."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        if not groups or piece.mark or len(groups[-1]) == together:
            groups.append([])
        groups[-1].append(piece)
    return [group[0] if len(group) == 1 else _pool(group) for group in groups]


def _pool(group: Sequence[_Piece]) -> _Piece:
    first, intervals = group[0], [piece.interval for piece in group]
    highest: dict[str, float | None] = {}
    for name in _PERCENTILES:
        known = [value for each in intervals if (value := each.echo.get(name)) is not None]
        highest[name] = max(known, default=None)
    pooled = Interval(
        intervals[0].begin,
        intervals[-1].end,
        messages=sum(each.messages for each in intervals),
        sent=sum(each.sent for each in intervals),
        received=sum(each.received for each in intervals),
        errors=sum((each.errors for each in intervals), collections.Counter()),
        echo=highest,
        cells=sum((each.cells for each in intervals), collections.Counter()),
    )
    return _Piece(pooled, first.offset, first.mark, first.plan)


def _charts(pieces: Sequence[_Piece]) -> list[Chart]:
    common: Mapping[str, Any] = {
        "x": [(piece.begin + piece.end) / 2 for piece in pieces],
        "span": (pieces[0].begin, pieces[-1].end),
        "marks": [(piece.begin, piece.mark) for piece in pieces if piece.mark],
        "errors": {place: piece.errors for place, piece in enumerate(pieces) if piece.errors},
    }
    rates = {name: [piece.rates[name] for piece in pieces] for name in pieces[0].rates}
    charts = [
        Chart(
            title="Throughput",
            lines=rates,
            up="bytes a second" if pieces[0].plan.one_way else "messages a second",
            named=True,
            **common,
        )
    ]
    if any(piece.interval.cells for piece in pieces):
        charts.append(Chart(title="Percentiles", lines=_percentiles(pieces), **common))
        charts.append(
            Chart(
                title="Heat map: how many of 100 messages of an interval took so long",
                cells=_cells(pieces),
                **common,
            )
        )
    return charts


def _percentiles(pieces: Sequence[_Piece]) -> dict[str, list[float | None]]:
    lines = {name: [piece.interval.echo.get(name) for piece in pieces] for name in _PERCENTILES}
    return {
        name: values for name, values in lines.items() if any(each is not None for each in values)
    }


def _cells(pieces: Sequence[_Piece]) -> Cells:
    seen = [cell for piece in pieces for cell in piece.interval.cells]
    cells = range(min(seen), max(seen) + 1)
    shares = []
    for piece in pieces:
        counts = piece.interval.cells
        # The cells above its highest are empty.
        own = range(cells.start, max(counts, default=cells.start - 1) + 1)
        shares.append([100 * counts[cell] / piece.interval.messages for cell in own])
    return Cells(
        across=[pieces[0].begin, *(piece.end for piece in pieces)],
        up=[cell_edges(cells[0])[0], *(cell_edges(cell)[1] for cell in cells)],
        shares=shares,
    )
