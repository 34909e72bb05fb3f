"""A directive for Sphinx: figures of ``docs/bench.json`` as bars, ours in the site's colour.

    ```{bars} 50 × 64B
    anysock selector
    asyncio streams
    ```

A line is a server, as `anysock bench` calls it. A bar is the median of its ratios to the base line
of the same rounds, and the line on it the interval that holds the true one with 95 %.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from anysock.bench.reports.bars import BARS_STYLE
from anysock.bench.reports.pages import throughput_bars
from anysock.bench.results import Results

SOURCE = Path(__file__).parents[1] / "bench.json"


class Bars(SphinxDirective):
    """``bars``: see this module's docstring."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(SOURCE))
        results = Results.read(SOURCE)
        works = {work.name: work for work in results.settings.works}
        if self.arguments[0] not in works:
            raise self.error(f"{SOURCE.name} has no {self.arguments[0]!r}")
        rows = {row.server: row for row in results.rows(works[self.arguments[0]])}
        wanted = [line.strip() for line in self.content if line.strip()]
        if missing := [server for server in wanted if server not in rows]:
            raise self.error(f"{SOURCE.name} has not measured {', '.join(missing)}")
        shown = throughput_bars([rows[server] for server in wanted], results.settings.baseline)
        return [nodes.raw("", f"<style>{BARS_STYLE}</style>{shown}", format="html")]


def setup(app):
    app.add_directive("bars", Bars)
    return {"parallel_read_safe": True}
