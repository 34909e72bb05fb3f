"""Directives for Sphinx: the claims of the lab, and what they came to where the docs were made.

    ```{lab-claims}
    ```

    ```{lab-result} crlf-may-be-split
    ```

The results are in ``docs/lab.json``; `make docs/lab.json` measures them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from anysock.lab.catalogue import CLAIMS

RESULTS = Path(__file__).parents[1] / "lab.json"


class LabClaims(SphinxDirective):
    """``lab-claims``: a definition list of all claims: what is said, how it is measured."""

    def run(self) -> list[nodes.Node]:
        listed = nodes.definition_list()
        for claim in CLAIMS.values():
            told = nodes.paragraph(text=f"{claim.how} Threshold: {claim.threshold}.")
            term = nodes.term("", "", nodes.literal(text=claim.name))
            said = nodes.paragraph("", "", nodes.strong(text=claim.says))
            listed += nodes.definition_list_item("", term, nodes.definition("", said, told))
        return [listed]


class LabResult(SphinxDirective):
    """``lab-result``: what one claim says, the figures, the verdict, and how to measure it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        self.env.note_dependency(str(RESULTS))
        results = {result["name"]: result for result in json.loads(RESULTS.read_text())}
        if name not in results:
            raise self.error(f"{RESULTS.name} has no result of the claim {name!r}")
        result = results[name]
        said = nodes.paragraph("", "", nodes.strong(text=result["says"]))
        said += nodes.Text(f": {result['verdict']}.")
        figures = nodes.bullet_list()
        for finding in result["findings"]:
            text = nodes.paragraph("", "", nodes.emphasis(text=finding["subject"]))
            text += nodes.Text(f": {finding['figure']}")
            figures += nodes.list_item("", text)
        command = f"$ anysock lab {name}"
        return [said, figures, nodes.literal_block(command, command, language="console")]


def setup(app):
    app.add_directive("lab-claims", LabClaims)
    app.add_directive("lab-result", LabResult)
    return {"parallel_read_safe": True}
