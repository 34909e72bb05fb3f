"""Charts that uPlot draws, as those of the live page: it is part of a page that has some, with the
script that tells it how (``charts.js``), and draws on the reader's side, in light and dark.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from anysock.admin import assets
from anysock.bench.reports.pages import plain_page

_STYLE = """
:root { --line-1: #0a58ca; --line-2: #c2570c; --line-3: #0b7a5b; --line-4: #a3369a;
        --line-5: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --line-1: #6cb0ff; --line-2: #f0a35e; --line-3: #4fd1a5; --line-4: #e58fdc;
          --line-5: #9aa5b1; }
}
figure { margin: 1rem 0 1.6rem; overflow: hidden; }
figcaption { font-weight: 600; }
.u-legend { text-align: left !important; font-size: .85rem !important; color: var(--text);
            min-height: 1.6rem; }
.u-legend.u-inline { width: auto; }
.u-legend th, .u-legend td { border: 0; padding: 0 .25rem; text-align: left; }
.u-legend th::after { content: none !important; } .u-legend .u-value { font-weight: 600; }
.u-legend th > * { font-weight: normal; }
.u-legend .u-series { margin-right: .5rem; }
.u-hz .u-cursor-x, .u-hz .u-cursor-y { border-color: var(--note); }
.said { margin: 0; min-height: 1.5rem; font-size: .85rem; font-variant-numeric: tabular-nums; }
.scale { display: flex; gap: .4rem; align-items: center; font-size: .85rem; color: var(--note); }
.scale i { width: 9rem; height: .8rem; }
"""


@dataclass(frozen=True)
class Cells:
    """A heat map: of each stretch of x, how much of it is in each cell of y."""

    #: Where the stretches begin, and where the last one ends; and so of the cells.
    across: Sequence[float]
    up: Sequence[float]
    #: Of each stretch: of its cells, from the lowest, the share in percent.
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over one x, or a heat map; what is not known is None."""

    title: str
    x: Sequence[float]
    #: The y of each x, by the name of the line.
    lines: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    cells: Cells | None = None
    #: What is on the axes; times are in seconds, a percentile p stands at 1 / (1 - p), so that the
    #: nines are stretched, as in HDR plots.
    across: Literal["time", "percentile"] = "time"
    up: Literal["messages a second", "bytes a second", "time"] = "time"
    #: From where to where the time goes.
    span: tuple[float, float] | None = None
    #: Where something begins, and what, from the first on; with its name in the chart, if `named`.
    marks: Sequence[tuple[float, str]] = ()
    named: bool = False
    #: What went wrong at an x, by its place in `x`.
    errors: Mapping[int, str] = field(default_factory=dict)

    def html(self) -> str:
        """The place in the page where it is drawn."""
        told: dict[str, Any] = {
            "across": self.across,
            "up": self.up,
            "x": _short(self.x),
            "lines": [[name, _short(values)] for name, values in self.lines.items()],
            "span": self.span,
            "named": self.named,
            "marks": [[_shortened(x), text] for x, text in self.marks],
            "errors": self.errors,
        }
        if self.cells is not None:
            told["cells"] = {
                "across": _short(self.cells.across),
                "up": _short(self.cells.up),
                "shares": [_short(each, 2) for each in self.cells.shares],
            }
        # In a script, "<" could be the beginning of its end.
        text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
        return (
            f"<figure><figcaption>{html.escape(self.title)}</figcaption>"
            f'<script type="application/json">{text}</script></figure>'
        )


def _short(values: Sequence[float | None], digits: int = 6) -> list[float | None]:
    return [None if value is None else _shortened(value, digits) for value in values]


def _shortened(value: float, digits: int = 6) -> float:
    """As few characters as show it: a page of many intervals has many of them."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def chart_page(title: str, parts: Sequence[str], machine: dict[str, Any]) -> str:
    """A page of `parts`, among which are charts."""
    licence, program, style = (
        assets.read(f"uPlot.{kind}")[0].decode() for kind in ("LICENSE", "js", "css")
    )
    ours = resources.files("anysock.bench.reports").joinpath("charts.js").read_text("utf-8")
    script = f"/* uPlot, which draws the charts:\n\n{licence}*/\n{program}\n{ours}"
    return plain_page(title, parts, machine, style=style + _STYLE, script=script)
