"""Reports for the terminal, of rich."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape

from anysock.bench.generator.latencies import Latencies
from anysock.bench.load import Outcome
from anysock.bench.reports.sheets import Sheet, facts
from anysock.bench.reports.wording import (
    LATENCY_HEADER,
    ONE_WAY,
    TOO_FEW,
    TOO_FEW_MEANS,
    bytes_text,
    flow_text,
    latency_row,
    percentile_text,
    rate_text,
    time_text,
)
from anysock.bench.results import Results
from anysock.bench.scale import Scaling
from anysock.bench.search import Search, Step
from anysock.bench.statistics import Estimate
from anysock.options.units import format_duration


def outcome_report(outcome: Outcome) -> RenderableType:
    """What a load has found."""
    plan = outcome.plan
    told = facts()
    if plan.one_way:
        loop = ONE_WAY[plan.mode]
    elif plan.rate is None:
        loop = f"closed, {plan.depth} in flight on each connection"
    else:
        loop = "open: sent on schedule, latencies count from when a message was due"
    told.add_row("load" if plan.one_way else "loop", loop)
    ended = f"in {outcome.seconds:.3g} s{' (interrupted)' if outcome.interrupted else ''}"
    if plan.one_way:
        for name, flow in outcome.flows.items():
            whole = bytes_text(flow * outcome.seconds)
            told.add_row(name, f"{flow_text(flow)}; {whole} {ended}")
    else:
        achieved = rate_text(outcome.rate)
        if plan.rate is not None:
            achieved += f" of {rate_text(plan.rate)} asked"
        sent = bytes_text(outcome.rate * plan.size)
        told.add_row("rate", f"{achieved}, {sent}/s each way")
        told.add_row("messages", f"{outcome.messages:,} of {plan.size:,} bytes {ended}")
    asked = "" if plan.churn else f" ({plan.connections:,} for a run without errors)"
    told.add_row("connections", f"{outcome.opened:,} opened{asked}")
    load_cpu = ", ".join(f"{share:.0%}" for share in outcome.load_cpu)
    told.add_row("load side", f"{load_cpu} of a core")
    if outcome.server_cpu is not None and outcome.messages:
        cpu = outcome.server_cpu
        each = 1e6 / outcome.messages
        told.add_row(
            "server",
            f"{cpu.total / outcome.seconds:.0%} of a core; {cpu.total * each:.3g} µs a message, "
            f"{cpu.user * each:.3g} user and {cpu.system * each:.3g} system",
        )
    elif outcome.server_cpu is not None and (moved := sum(outcome.flows.values())):
        share = outcome.server_cpu.total / outcome.seconds
        told.add_row("server", f"{share:.0%} of a core; {share / moved * 1e9:.3g} ns a byte")
    for kind, count in sorted(outcome.errors.items()):
        told.add_row("[red]error[/red]", f"{count:,} × {escape(kind)}")
    if outcome.unanswered:
        told.add_row("[red]error[/red]", f"{outcome.unanswered:,} messages were never answered")
    parts: list[RenderableType] = [told, latency_table(_named(outcome))]
    if any(latencies.lacking() for _, latencies in _named(outcome)):
        parts.append(TOO_FEW_MEANS)
    if outcome.bottleneck:
        parts.append(f"[yellow]note:[/yellow] {escape(outcome.bottleneck)}")
    return Group(*parts)


def _named(outcome: Outcome) -> Iterable[tuple[str, Latencies]]:
    yield "echo", outcome.echo
    yield "first byte", outcome.first_byte
    yield "connect", outcome.connect
    yield "sent late by", outcome.late


def latency_table(rows: Iterable[tuple[str, Latencies]]) -> Sheet:
    """Percentiles, a row for each of `rows` that has any."""
    table = Sheet()
    for name in LATENCY_HEADER:
        table.column(name)
    for name, latencies in rows:
        if len(latencies):
            table.row(*latency_row(name, latencies))
    return table


def step_text(step: Step) -> str:
    """One line for a rate that was tried."""
    p99 = percentile_text(step.outcome.echo, 99)
    if step.passed:
        verdict = "[green]passed[/green]"
    else:
        word = "[yellow]can't tell[/yellow]" if step.untold else "[red]no[/red]"
        verdict = f"{word}: {escape(step.why_not or '')}"
    return f"{rate_text(step.rate):>14}  p99 {p99:>8}  {verdict}"


def _none_found(search: Search) -> RenderableType:
    bound = search.bound
    told = f"[red]no rate keeps {escape(str(bound))}[/red]"
    lowest = min(search.steps, key=lambda step: step.rate, default=None)
    if lowest is None:
        return f"[red]can't tell of {escape(str(bound))}: nothing was answered[/red]"
    seconds = lowest.outcome.plan.duration
    if lowest.rate > bound.lowest_rate(seconds):
        return told
    return (
        f"{told} from {rate_text(lowest.rate)} on. Of lower ones a step of "
        f"{format_duration(seconds)} can't tell: {bound.name} takes {bound.needs:,} answers. "
        f"A longer --duration can, or a lower percentile"
    )


def search_report(search: Search) -> RenderableType:
    """What a search has found."""
    found = search.best
    if found is None:
        return _none_found(search)
    return Group(
        f"[bold]{rate_text(found.rate)}[/bold] is the highest rate tried that keeps "
        f"{escape(str(search.bound))}:\n",
        outcome_report(found.outcome),
    )


def ratio_text(ratio: Estimate | None) -> str:
    """``0.70 ±2 %``; without the interval when it is not known."""
    if ratio is None:
        return ""
    spread = "" if ratio.within is None else f" ±{ratio.within * 100:.0f} %"
    return f"{ratio.median:.2f}{spread}"


def comparison_report(results: Results) -> RenderableType:
    """The tables of a comparison."""
    parts: list[RenderableType] = []
    load_bound = too_few = False
    for work in results.settings.works:
        if not (rows := results.rows(work)):
            continue
        table = Sheet(work.name)
        names = ("messages/s", "ratio, 95 %", "CPU µs", "user", "sys", "p50", "p99", "rounds")
        for name in ("server", *names):
            table.column(name)
        for row in rows:
            load_bound |= row.load_bound
            too_few |= row.echo.told(99) is None
            table.row(
                row.server + (" *" if row.load_bound else ""),
                f"{row.rate:,.0f}",
                ratio_text(row.ratio),
                *(
                    "" if cpu is None else f"{cpu * 1e6:.2f}"
                    for cpu in (row.cpu, row.user, row.system)
                ),
                percentile_text(row.echo, 50),
                percentile_text(row.echo, 99),
                str(row.rounds),
            )
        parts.append(table)
    if too_few:
        parts.append(TOO_FEW_MEANS)
    if load_bound:
        parts.append("* the load side was the bottleneck: the server could do more\n")
    if results.idle:
        idle = Sheet("an idle connection")
        for name in ("server", "bytes", f"CPU of {results.settings.idle:,}"):
            idle.column(name)
        for name, cost in results.idle.items():
            idle.row(name, f"{cost['bytes']:,.0f}", f"{cost['cpu']:.2%}")
        parts.append(idle)
    for why in dict.fromkeys(results.missing.values()):  # what has one reason is one line
        those = ", ".join(name for name, reason in results.missing.items() if reason == why)
        parts.append(f"not measured: {escape(those)}: {escape(why)}")
    if not results.complete:
        parts.append("[yellow]interrupted: not all of it was measured[/yellow]")
    return Group(*parts)


def scaling_report(scaling: Scaling) -> RenderableType:
    """The tables of a sweep."""
    counts = [work.connections for work in scaling.results.settings.works]
    parts: list[RenderableType] = []
    for title, values, show in (
        ("messages/s, by connections", scaling.rates, lambda value: f"{value:,.0f}"),
        ("p99, by connections", scaling.p99s, time_text),
    ):
        table = Sheet(title)
        for name in ("", *(f"{count:,}" for count in counts)):
            table.column(name)
        for server in scaling.servers:
            points = dict(values(server))
            table.row(server, *(show(points[n]) if n in points else TOO_FEW for n in counts))
        parts.append(table)
    table = Sheet()
    for name in ("", *scaling.header):
        table.column(name)
    for row in scaling.table():
        table.row(*row)
    return Group(*parts, table, scaling.meaning)
