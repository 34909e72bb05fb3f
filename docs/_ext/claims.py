"""A directive for Sphinx: the claims of the lab, as a list."""

from __future__ import annotations

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from anysock.lab.catalogue import CLAIMS


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


def setup(app):
    app.add_directive("lab-claims", LabClaims)
    return {"parallel_read_safe": True}
