"""The lab's reports for the terminal, of rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from anysock.lab.claims import Claim, Result, Verdict

_STYLES = {
    Verdict.CONFIRMED: "green",
    Verdict.REFUTED: "red",
    Verdict.NOT_MEASURED: "yellow",
}


def verdict_text(verdict: Verdict) -> str:
    """The verdict in its colour."""
    return f"[{_STYLES[verdict]}]{verdict.value}[/]"


def results_table(results: Sequence[Result]) -> RenderableType:
    """A line for each finding, under its claim."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("claim", ratio=5)
    table.add_column("", ratio=2)
    table.add_column("measured", ratio=5)
    table.add_column("verdict", no_wrap=True)
    for result in results:
        for place, finding in enumerate(result.findings):
            table.add_row(
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
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("claim", escape(claim.says))
    facts.add_row("how", escape(claim.how))
    facts.add_row("threshold", escape(claim.threshold))
    for finding in result.findings:
        told = f"{escape(finding.figure)}  {verdict_text(finding.verdict)}"
        facts.add_row(escape(finding.subject), told)
    facts.add_row("verdict", verdict_text(result.verdict))
    facts.add_row("read on", escape(claim.read_on))
    return Group(facts, "")


def claims_table(claims: Sequence[Claim]) -> RenderableType:
    """What there is to be measured."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("claim", no_wrap=True)
    table.add_column("says")
    for claim in claims:
        table.add_row(claim.name, escape(claim.says))
    return table
