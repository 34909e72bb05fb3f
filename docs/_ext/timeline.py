"""A directive for Sphinx: who runs, who waits, who spins, as an SVG in the page.

    ```{timeline}
    server: wait 3 accept(); run 1 echo; wait 4 recv()
    client 1: run 1 connect; wait 3
    ```

A line is a lane; it holds segments with their lengths and, maybe, a text: `run` does something,
`wait` sleeps, `spin` asks again and again, `lost` is where something goes wrong, `gap` is nothing.
"""

from __future__ import annotations

import html
import re

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_SEGMENT = re.compile(r"(run|wait|spin|lost|gap)\s+([\d.]+)(?:\s+(.+))?")
_HEIGHT, _LANE, _LEFT = 26, 44, 90

# What the colours say, in this order below each picture.
_LEGEND = {
    "run": "runs",
    "wait": "sleeps until something comes",
    "spin": "asks again and again",
    "lost": "goes wrong",
}

# What a text takes, in pixels: each letter, and the space around it.
_LETTER, _SPACE = 7, 14


def svg(lines: list[str]) -> str:
    """The picture. Raises ValueError for a line that can't be read."""
    lanes = []
    for line in lines:
        name, colon, rest = line.partition(":")
        segments = [_SEGMENT.fullmatch(part.strip()) for part in rest.split(";")]
        if not colon or None in segments:
            raise ValueError(f"not a lane of a timeline: {line!r}")
        lanes.append((name.strip(), [s for s in segments if s]))
    # Wide enough for the text that has the least room.
    unit = max(
        [40.0]
        + [
            (len(s[3]) * _LETTER + _SPACE) / float(s[2])
            for _, segments in lanes
            for s in segments
            if s[3] and s[1] != "gap"
        ]
    )
    longest = max(sum(float(s[2]) for s in segments) for _, segments in lanes)
    width, height = _LEFT + longest * unit + 10, _LANE * len(lanes) + 8
    said = "; ".join(f"{name}: {', '.join(s[0] for s in segments)}" for name, segments in lanes)
    parts = [
        f'<svg viewBox="0 0 {width:g} {height}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{html.escape(said)}</title>",
    ]
    for number, (name, segments) in enumerate(lanes):
        top = 8 + number * _LANE
        middle = top + _HEIGHT / 2
        parts.append(f'<text x="0" y="{middle + 5:g}">{html.escape(name)}</text>')
        parts.append(
            f'<line class="lane" x1="{_LEFT}" x2="{width - 10:g}" y1="{middle}" y2="{middle}"/>'
        )
        left = float(_LEFT)
        for segment in segments:
            kind, length, text = segment[1], float(segment[2]) * unit, segment[3]
            if kind != "gap":
                parts.append(
                    f'<rect class="{kind}" x="{left:g}" y="{top}" width="{length - 2:g}" '
                    f'height="{_HEIGHT}" rx="3"/>'
                )
            if text:
                dark = " dark" if kind in ("wait", "gap") else ""
                above = -4 if kind == "gap" else 4  # not on the line
                parts.append(
                    f'<text class="in{dark}" x="{left + 6:g}" y="{middle + above:g}">'
                    f"{html.escape(text)}</text>"
                )
            left += length
    return "".join([*parts, "</svg>"])


def legend(lines: list[str]) -> str:
    """What the colours of these lanes say."""
    used = {part.split()[0] for line in lines for part in line.partition(":")[2].split(";")}
    return keys({kind: text for kind, text in _LEGEND.items() if kind in used})


def keys(says: dict[str, str]) -> str:
    """A legend: what each colour, by its class, says."""
    items = [
        f'<span class="key"><svg viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect class="{kind}" width="12" height="12" rx="2"/></svg> {text}</span>'
        for kind, text in says.items()
    ]
    return f'<p class="legend">{" ".join(items)}</p>'


class Timeline(SphinxDirective):
    """``timeline``: see this module's docstring."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = [line for line in self.content if line.strip()]
        try:
            picture = svg(lines)
        except ValueError as error:
            raise self.error(str(error)) from None
        html_ = f'<div class="timeline">{picture}</div>{legend(lines)}'
        return [nodes.raw("", html_, format="html")]


def setup(app):
    app.add_directive("timeline", Timeline)
    return {"parallel_read_safe": True}
