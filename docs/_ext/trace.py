"""A directive for Sphinx: a recorded trace, in the viewer.

    ```{trace} blocking-step
    ```

takes ``docs/_static/traces/blocking-step.jsonl``, and puts its page beside the site's.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from anysock.traces.format import read
from anysock.traces.page import trace_page

FOLDER = Path(__file__).parents[1] / "_static" / "traces"


class Trace(SphinxDirective):
    """``trace``: see this module's docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        [name] = self.arguments
        source = FOLDER / f"{name}.jsonl"
        self.env.note_dependency(str(source))
        head, events = read(source)
        target = Path(self.env.app.outdir, "_static", "traces", f"{name}.html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(trace_page(head, events), encoding="utf-8")
        up = "../" * self.env.docname.count("/")
        url = f"{up}_static/traces/{name}.html"
        html = (
            f'<iframe class="trace" src="{url}" title="{head["title"]}" loading="lazy"></iframe>'
            f'<p class="trace-link"><a href="{url}">The same in a window of its own</a></p>'
        )
        return [nodes.raw("", html, format="html")]


def setup(app):
    app.add_directive("trace", Trace)
    return {"parallel_read_safe": True}
