"""A directive for Sphinx: all I/O models side by side, drawn from recorded traces.

    ```{models}
    blocking: it serves one client to its end
    selector: …
    ```

A line is an engine, whose trace is in ``docs/_static/traces/models`` (`make docs/_static/traces`
records it), and what there is to say of it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from timeline import keys

from anysock.traces.format import Line, read

FOLDER = Path(__file__).parents[1] / "_static" / "traces" / "models"

# In the units of the picture.
_WIDTH, _LEFT, _LANE, _BAR = 340, 20, 24, 14

_LEGEND = {"wait": "the client waits for its answer", "run": "the handler works for it"}


def spans(events: list[Line]) -> Iterator[tuple[str, str, int, int]]:
    """Who waits, or is worked for, from when to when: client, class, two times."""
    began: dict[tuple[str, str], int] = {}
    kinds = {"asks": ("wait", True), "is answered": ("wait", False)}
    kinds |= {"is worked for": ("run", True), "is done": ("run", False)}
    for event in events:
        if event["e"] == "mark":
            kind, begins = kinds[event["what"]]
            if begins:
                began[event["host"], kind] = event["t"]
            else:
                yield event["host"], kind, began.pop((event["host"], kind)), event["t"]


def picture(events: list[Line], longest: int) -> str:
    """One model: a lane for each client."""
    found = list(spans(events))
    names = sorted({name for name, *_ in found})
    unit = (_WIDTH - _LEFT - 4) / longest
    height = _LANE * len(names) + 18
    parts = []
    for number, name in enumerate(names):
        middle = _LANE * number + _LANE / 2
        parts.append(f'<text x="2" y="{middle + 4:g}">{html.escape(name)}</text>')
    for kind in ("wait", "run"):  # what is done is drawn on what is waited for
        for name, of, since, until in found:
            if of == kind:
                top = _LANE * names.index(name) + (_LANE - _BAR) / 2
                parts.append(
                    f'<rect class="{kind}" x="{_LEFT + since * unit:.1f}" y="{top:g}" '
                    f'width="{max((until - since) * unit, 1):.1f}" height="{_BAR}" rx="2"/>'
                )
    last = max(until for *_, until in found)
    at = _LEFT + last * unit
    parts.append(f'<text x="{min(at, _WIDTH - 4):.1f}" y="{height - 4}" text-anchor="end">')
    parts.append(f"{last / 1e6:.0f} ms</text>")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Three clients: who waits, who is worked for">{"".join(parts)}</svg>'
    )


class Models(SphinxDirective):
    """``models``: see this module's docstring."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = [line.partition(":") for line in self.content if line.strip()]
        traces = {}
        for name, _, _ in lines:
            source = FOLDER / f"{name.strip()}.jsonl"
            self.env.note_dependency(str(source))
            traces[name] = read(source)[1]
        longest = max(event["t"] for events in traces.values() for event in events)
        figures = "".join(
            f"<figure>{picture(traces[name], longest)}<figcaption>"
            f"<code>{html.escape(name)}</code>: {html.escape(says.strip())}</figcaption></figure>"
            for name, _, says in lines
        )
        text = f'<div class="models">{figures}</div>{keys(_LEGEND)}'
        return [nodes.raw("", text, format="html")]


def setup(app):
    app.add_directive("models", Models)
    return {"parallel_read_safe": True}
