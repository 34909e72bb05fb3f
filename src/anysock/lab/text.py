"""The lab's reports for the terminal, of rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape

from anysock.bench.reports.sheets import Sheet, facts
from anysock.lab.claims import Claim, Result, Verdict

_STYLES = {
    Verdict.CONFIRMED: "green",
    Verdict.REFUTED: "red",
    Verdict.NOT_MEASURED: "yellow",
}


def verdict_text(verdict: Verdict) -> str:
    """The verdict in its colour."""
    return f"[{_STYLES[verdict]}]{verdict.value}[/]"


def report(results: Sequence[Result], *, explained: bool) -> RenderableType:
    """All results: each at length, if `explained`, or in a table; and how many came to which
    verdict."""
    parts = map(explanation, results) if explained else [results_table(results)]
    return Group(*parts, summary_line(results))


def results_table(results: Sequence[Result]) -> RenderableType:
    """A line for each finding, under its claim."""
    table = Sheet()
    for name in ("claim", "", "measured"):
        table.column(name, words=True)
    table.column("verdict", left=True)
    for result in results:
        for place, finding in enumerate(result.findings):
            table.row(
                f"{escape(result.claim.says)}\n[dim]{result.claim.name}[/dim]" if not place else "",
                escape(finding.subject),
                escape(finding.figure),
                verdict_text(finding.verdict),
                end_section=place == len(result.findings) - 1,
            )
    return table


def summary_line(results: Sequence[Result]) -> str:
    """How many claims came to which verdict."""
    counts = dict.fromkeys(Verdict, 0)
    for result in results:
        counts[result.verdict] += 1
    return ", ".join(f"{count} {verdict_text(verdict)}" for verdict, count in counts.items())


def explanation(result: Result) -> RenderableType:
    """One claim at length: what is claimed, how it is measured, what came out, where to read on."""
    claim = result.claim
    told = facts()
    told.add_row("claim", escape(claim.says))
    told.add_row("how", escape(claim.how))
    told.add_row("threshold", escape(claim.threshold))
    for finding in result.findings:
        figure = f"{escape(finding.figure)}  {verdict_text(finding.verdict)}"
        told.add_row(escape(finding.subject), figure)
    told.add_row("verdict", verdict_text(result.verdict))
    told.add_row("read on", escape(claim.read_on))
    return Group(told, "")


def claims_table(claims: Sequence[Claim]) -> RenderableType:
    """What there is to be measured."""
    table = Sheet()
    table.column("claim")
    table.column("says", words=True)
    for claim in claims:
        table.row(claim.name, escape(claim.says))
    return table
