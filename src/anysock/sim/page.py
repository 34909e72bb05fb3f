"""The page of a history: who sent what to whom and when, its story, and its plan. One file with all
in it, which a browser shows without a network, by day and by night, on a phone, too."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from anysock.engines.sim.fault_kinds import FAULTS
from anysock.net.printable import printable
from anysock.sim.finding import Finding
from anysock.sim.plan import Plan
from anysock.sim.story import story

#: How many entries of a trace are drawn at most: of more, the first and the last.
ENTRIES = 600

# All in the units of the picture: the column of times, that of each host, the height of a line.
_TIMES, _HOST, _LINE, _HEAD = 76, 150, 18, 34

# How wide a letter is, and how many are shown of a text beside which there are other columns.
_LETTER, _LETTERS = 6.7, 40

# What one host sends to another, and how the arrow is drawn.
_ARROWS = {"data": "data", "fin": "fin", "rst": "fault"}

# What is not drawn.
_LEFT_OUT = {"ack", "carried"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #57606a; --line: #d0d7de;
  --paper: #fff; --box: #f3f4f6; --blue: #0a58ca; --red: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --line: #444c56;
  --paper: #0d1117; --box: #1c2128; --blue: #79b8ff; --red: #ff8a7a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
pre { background: var(--box); padding: .7rem; overflow-x: auto; font-size: .85rem; }
.scroll { overflow-x: auto; } .note { color: var(--faint); }
svg text { font: 11px ui-monospace, monospace; fill: var(--ink); }
svg .time { fill: var(--faint); text-anchor: end; }
svg .host { font-weight: 600; text-anchor: middle; fill: var(--blue); }
svg .fault { fill: var(--red); stroke: none; }
svg line { stroke: var(--line); } svg .data { stroke: var(--blue); }
svg .fin { stroke: var(--faint); stroke-dasharray: 4 3; } svg line.fault { stroke: var(--red); }
svg .under { fill: var(--paper); opacity: .85; }
"""


def history_page(
    plan: Plan, trace: Sequence[Sequence[Any]], finding: Finding | None, repeat: str = ""
) -> str:
    """The page of the history of `plan`; `repeat` is the command that repeats it."""
    title = finding.text if finding is not None else f"The history of seed {plan.seed}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=note>Seed {plan.seed}; times are virtual, in seconds.</p>",
        f"<h2>The story</h2><pre>{_text(chr(10).join(story(trace, finding)))}</pre>",
        "<h2>Who said what to whom</h2>",
        _picture(trace),
    ]
    if repeat:
        parts.append(f"<h2>Once more</h2><pre>{_text(repeat)}</pre>")
    parts.append(f"<h2>The plan</h2><pre>{_text(plan.to_json(indent=1))}</pre>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Anysock: {_text(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def repeats(handler: str, file: object) -> str:
    """The command that repeats the history of a file."""
    return shlex.join(["anysock", "sim", handler, "--replay", str(file)])


def _text(text: str) -> str:
    return html.escape("\n".join(printable(line) for line in text.split("\n")))


def _picture(trace: Sequence[Sequence[Any]]) -> str:
    """A column for each host, a line for each entry, an arrow for each segment."""
    entries = [entry for entry in trace if entry[2] not in _LEFT_OUT]
    left_out = max(len(entries) - ENTRIES, 0)
    if left_out:
        note = f"<p class=note>{left_out:,} entries in the middle are left out.</p>"
        entries = entries[: ENTRIES // 3] + entries[-(ENTRIES - ENTRIES // 3) :]
    hosts = list(dict.fromkeys(str(name) for entry in entries for name in _hosts(entry)))
    middles = {name: _TIMES + _HOST * (n + 0.5) for n, name in enumerate(hosts)}
    width = _TIMES + _HOST * max(len(hosts), 1)
    height = _HEAD + _LINE * (len(entries) + 1)
    drawn = "".join(
        f'<line x1="{x:g}" x2="{x:g}" y1="{_HEAD - 8}" y2="{height}"/>'
        f'<text class="host" x="{x:g}" y="16">{_text(name)}</text>'
        for name, x in middles.items()
    )
    drawn += "".join(
        part
        for number, entry in enumerate(entries)
        for part in _drawn(entry, middles, _HEAD + _LINE * (number + 0.8))
    )
    return (
        f'{note if left_out else ""}<div class="scroll"><svg width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="A timeline of the history">'
        f"<defs>{''.join(map(_head, ('data', 'fin', 'fault')))}</defs>{drawn}</svg></div>"
    )


def _head(kind: str) -> str:
    """The head of an arrow, in the colour of its kind."""
    colour = {"data": "--blue", "fin": "--faint", "fault": "--red"}[kind]
    return (
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="var({colour})"/></marker>'
    )


def _hosts(entry: Sequence[Any]) -> Iterator[Any]:
    yield entry[1]
    if entry[2] in _ARROWS and len(entry) > 3:
        yield entry[3]


def _drawn(entry: Sequence[Any], middles: dict[str, float], y: float) -> Iterator[str]:
    when, host, what, *details = entry
    here = middles[str(host)]
    yield f'<text class="time" x="{_TIMES - 10}" y="{y:g}">{when:.4f}</text>'
    if what in _ARROWS and details and middles[str(details[0])] != here:
        kind, there = _ARROWS[what], middles[str(details[0])]
        told = f"{details[1]} B" if what == "data" else what.upper()
        middle = (here + there - _LETTER * len(told)) / 2
        yield (
            f'<line class="{kind}" x1="{here:g}" x2="{there:g}" y1="{y - 3:g}" y2="{y - 3:g}" '
            f'marker-end="url(#{kind})"/>'
        )
        under = f'x="{middle - 3:g}" y="{y - 11:g}" width="{_LETTER * len(told) + 6:g}"'
        yield f'<rect class="under" {under} height="14"/>'
        yield f'<text class="said" x="{middle:g}" y="{y:g}">{_text(told)}</text>'
        return
    kind = "said fault" if what in FAULTS else "said"
    told = " ".join([str(what), *map(_detail, details)])
    shown = told if len(told) <= _LETTERS else told[: _LETTERS - 1] + "…"
    x = max(here - _LETTER * len(shown) / 2, _TIMES)
    yield (
        f'<text class="{kind}" x="{x:g}" y="{y:g}"><title>{_text(told)}</title>{_text(shown)}'
        "</text>"
    )


def _detail(detail: Any) -> str:
    if isinstance(detail, tuple) and len(detail) >= 2:
        return f":{detail[1]}"  # the column says which host
    return f"{detail:g}" if isinstance(detail, float) else str(detail)
