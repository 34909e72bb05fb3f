"""Figures that are part of a page, and need no program: bars in HTML, lines in SVG.

What is ours is drawn in one colour, what it is compared with in grey.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The style of bars, for pages that give the colours.
BARS_STYLE = """.bars { margin: .6rem 0 1.6rem; font-size: .9rem; }
.bars > div { display: grid; grid-template-columns: 11.5rem minmax(0, 1fr); gap: .1rem .6rem;
  align-items: center; padding: .12rem 0; }
.bars .name { text-align: right; overflow-wrap: anywhere; }
.bars .ours .name { font-weight: 600; }
.bars .track { display: flex; align-items: center; gap: .5rem; }
.bars .bar { position: relative; height: 1.05rem; min-width: 2px; border-radius: 2px;
  background: var(--peer); }
.bars .ours .bar { background: var(--ours); } .bars .base .bar { background: var(--base); }
.bars .bad .bar { background: var(--bad); }
.bars .range { position: absolute; top: 50%; height: 0; border-top: 2px solid var(--mark); }
.bars .range::before, .bars .range::after { content: ""; position: absolute; top: -5px; height: 8px;
  border-left: 2px solid var(--mark); }
.bars .range::before { left: 0; } .bars .range::after { right: 0; }
.bars .value { white-space: nowrap; font-variant-numeric: tabular-nums; }
@media (max-width: 34rem) { .bars > div { grid-template-columns: minmax(0, 1fr); }
  .bars .name { text-align: left; } }
"""

#: What pages with such figures have in their style.
STYLE = (
    """
:root { --ours: #0a58ca; --peer: #9aa4af; --base: #57606a; --mark: #1b1f24; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ours: #6cb0ff; --peer: #5c6773; --base: #9aa5b1; --mark: #e6edf3; --bad: #ff8a7a; }
}
.lines { overflow-x: auto; } .lines svg { min-width: 32rem; max-width: 100%; height: auto; }
.lines text { font: 12px system-ui, sans-serif; fill: var(--note); }
.lines .ours { stroke: var(--ours); stroke-width: 2.5; } .lines text.ours { fill: var(--ours);
  stroke: none; font-weight: 600; }
.lines path, .lines line { fill: none; stroke: var(--peer); stroke-width: 1.3; }
.lines .grid { stroke: var(--line); stroke-width: 1; }
"""
    + BARS_STYLE
)

# What a bar has of its track at most, so that its value has room beside it.
_WIDEST = 68


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what it is of, how long it is, and what is written at it."""

    name: str
    value: float
    text: str
    #: An interval, or where else the value reaches; None: there is none.
    low: float | None = None
    high: float | None = None
    #: ``ours``, ``base`` (what is compared with), ``bad``, or nothing.
    kind: str = ""


def bars(says: str, shown: Sequence[Bar], *, longest_first: bool = True) -> str:
    """Bars, sorted, under a sentence that says what they show."""
    ordered = sorted(shown, key=lambda bar: -bar.value if longest_first else bar.value)
    most = max((max(bar.value, bar.high or 0.0) for bar in ordered), default=0.0) or 1.0
    rows = "".join(_bar(bar, most) for bar in ordered)
    sentence = f"<p>{html.escape(says)}</p>" if says else ""
    return f'{sentence}<div class="bars">{rows}</div>'


def _bar(bar: Bar, most: float) -> str:
    width = _WIDEST * bar.value / most
    interval = ""
    if bar.low is not None and bar.high is not None and bar.value > 0:
        left, right = 100 * bar.low / bar.value, 100 * bar.high / bar.value
        interval = f'<i class="range" style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
    # The value stands behind what reaches furthest.
    beyond = max(((bar.high or 0.0) - bar.value) / most * _WIDEST, 0.0)
    return (
        f'<div class="{bar.kind}"><span class="name">{html.escape(bar.name)}</span>'
        f'<span class="track"><span class="bar" style="width:{width:.1f}%">{interval}</span>'
        f'<span class="value" style="margin-left:{beyond:.1f}%">{html.escape(bar.text)}</span>'
        "</span></div>"
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its points, with x and y above 0."""

    name: str
    points: Sequence[tuple[float, float]]
    ours: bool = False


# In the units of the picture.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 70, 170, 14, 34


def lines(says: str, shown: Sequence[Line], x_name: str, y_name: str) -> str:
    """Lines over axes that are both logarithmic, each with its name at its end, under a sentence
    that says what they show."""
    points = [point for line in shown for point in line.points]
    if not points:
        return ""
    across = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<path class="grid" d="M{_LEFT} {up(y):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{y:,g}</text>'
        for y in up.ticks()
    ]
    parts += [
        f'<text x="{across(x):.1f}" y="{_HEIGHT - 16}" text-anchor="middle">{x:,g}</text>'
        for x in across.ticks()
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{_HEIGHT - 2}" text-anchor="middle">{html.escape(x_name)}</text>'
    )
    ends: list[float] = []
    # Ours last, and so on top of the others.
    for line in sorted((line for line in shown if line.points), key=lambda line: line.ours):
        way = " ".join(
            f"{'L' if number else 'M'}{across(x):.1f} {up(y):.1f}"
            for number, (x, y) in enumerate(line.points)
        )
        kind = "ours" if line.ours else "peer"
        x, y = line.points[-1]
        beside = _free(up(y), ends)
        parts.append(
            f'<path class="{kind}" d="{way}"/><text class="{kind}" x="{across(x) + 6:.1f}" '
            f'y="{beside + 4:.1f}">{html.escape(line.name)}</text>'
        )
    return (
        f"<p>{html.escape(says)}</p><div class=lines>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(y_name)}">'
        f"{''.join(parts)}</svg></div>"
    )


def _free(wanted: float, taken: list[float]) -> float:
    """A place for a name, near the one that is wanted, where no other stands."""
    place, step = wanted, 1
    while any(abs(place - other) < 13 for other in taken):
        place = wanted + (step + 1) // 2 * 7 * (1 if step % 2 else -1)
        step += 1
    taken.append(place)
    return place


class _Axis:
    """Places on a logarithmic axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / ((self._high - self._low) or 1.0)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        all_of_them = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        within = [
            tick
            for tick in all_of_them
            if self._low - 1e-9 <= math.log10(tick) <= self._high + 1e-9
        ]
        if len(within) > 9:
            within = [tick for tick in within if f"{tick:e}"[0] == "1"]
        return within or [10**self._low]
