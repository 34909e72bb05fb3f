"""The lab's report as a page: one file, that a browser shows without a network."""

from __future__ import annotations

import html
from collections.abc import Sequence

from anysock.bench.reports.pages import plain_page
from anysock.bench.results import this_machine
from anysock.lab.claims import Result, Verdict

_MARKS = {Verdict.CONFIRMED: "#1a7f37", Verdict.REFUTED: "#cf222e", Verdict.NOT_MEASURED: "#9a6700"}


def lab_page(results: Sequence[Result]) -> str:
    """The page of ``anysock lab``."""
    parts = []
    for result in results:
        claim = result.claim
        rows = "".join(
            f"<tr><td>{html.escape(found.subject)}</td><td>{html.escape(found.figure)}</td>"
            f"<td>{_mark(found.verdict)}</td></tr>"
            for found in result.findings
        )
        parts.append(
            f'<h2 id="{claim.name}">{html.escape(claim.says)} {_mark(result.verdict)}</h2>'
            f"<p>{html.escape(claim.how)}</p>"
            f'<p class="note">Threshold: {html.escape(claim.threshold)}. '
            f"Read on: {html.escape(claim.read_on)}.</p>"
            f'<div class="scroll"><table class="claim"><tbody>{rows}</tbody></table></div>'
        )
    return plain_page("The lab: claims about I/O models, measured", parts, this_machine())


def _mark(verdict: Verdict) -> str:
    return f'<strong style="color: {_MARKS[verdict]}">{verdict.value}</strong>'
