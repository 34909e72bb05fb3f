"""The pages of ``anysock load``: what was found, and how it came about, interval by interval."""

from __future__ import annotations

import html
from collections.abc import Sequence

from anysock.bench.generator.latencies import Latencies
from anysock.bench.load import Outcome
from anysock.bench.reports.charts import Chart, chart_page
from anysock.bench.reports.over_time import over_time
from anysock.bench.reports.pages import table_html
from anysock.bench.reports.wording import (
    LATENCY_HEADER,
    ONE_WAY,
    TOO_FEW_MEANS,
    bytes_text,
    flow_text,
    latency_row,
    percentile_text,
    rate_text,
)
from anysock.bench.results import this_machine
from anysock.bench.search import Search


def load_page(outcome: Outcome) -> str:
    """The page of a load."""
    told = over_time([("", outcome)])
    return chart_page("Load report", [*_found(outcome), *told], this_machine())


def search_page(search: Search) -> str:
    """The page of a search for a rate: the best step, and the way to it."""
    parts = [
        f"<p><strong>{html.escape(_verdict(search))}</strong></p>",
        table_html(
            ["rate", "p99", "verdict"],
            [
                (
                    rate_text(step.rate),
                    percentile_text(step.outcome.echo, 99),
                    step.why_not or "passed",
                )
                for step in search.steps
            ],
        ),
    ]
    if search.outcome is not None:
        parts += [f"<h2>{'The best step' if search.ok else 'The last step'}</h2>"]
        parts += _found(search.outcome)
    steps = [
        (f"{rate_text(step.rate)} {'✓' if step.passed else '?' if step.untold else '✗'}", step)
        for step in search.steps
    ]
    parts += over_time([(mark, step.outcome) for mark, step in steps])
    return chart_page(f"The highest rate with {search.bound}", parts, this_machine())


def _verdict(search: Search) -> str:
    if search.best is None:
        return f"No rate that was tried keeps {search.bound}."
    return f"{rate_text(search.best.rate)} is the highest rate tried that keeps {search.bound}."


def _found(outcome: Outcome) -> list[str]:
    """All of it, together."""
    named = [
        (name, latencies)
        for name, latencies in (
            ("echo", outcome.echo),
            ("first byte", outcome.first_byte),
            ("connect", outcome.connect),
        )
        if len(latencies)
    ]
    return [
        table_html(["", ""], _facts(outcome), kind="facts"),
        "<h2>Latency</h2>",
        table_html(LATENCY_HEADER, [latency_row(*each) for each in named]),
        f"<p class=note>{html.escape(_note(named))}</p>",
        *_curves(named),
    ]


def _note(named: Sequence[tuple[str, Latencies]]) -> str:
    """About the samples of percentiles."""
    told = "A curve ends where 10 messages are left."
    if any(latencies.lacking() for _, latencies in named):
        told = f"{TOO_FEW_MEANS}. {told}"
    return told


def _curves(named: Sequence[tuple[str, Latencies]]) -> list[str]:
    """Latency by percentile."""
    curves = {
        name: {1 / (1 - percent / 100): took for percent, took in latencies.curve()}
        for name, latencies in named
    }
    x = sorted({at for curve in curves.values() for at in curve})
    if not x:
        return []
    lines = {name: [curve.get(at) for at in x] for name, curve in curves.items() if curve}
    chart = Chart(title="By percentile", x=x, lines=lines, across="percentile")
    return [chart.html()]


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    plan = outcome.plan
    facts = [("address", str(plan.address)), *(_flowed if plan.one_way else _echoed)(outcome)]
    facts.append(("connections opened", f"{outcome.opened:,}"))
    facts += [(f"error: {kind}", f"{count:,}") for kind, count in sorted(outcome.errors.items())]
    if not plan.one_way:
        facts.append(("never answered", f"{outcome.unanswered:,}"))
    shares = ", ".join(f"{share:.0%}" for share in outcome.load_cpu)
    facts.append(("load side", f"{shares} of a core"))
    # What the server has worked for.
    moved = sum(outcome.flows.values()) * outcome.seconds
    done, scale, unit = (
        (moved, 1e9, "ns a byte") if plan.one_way else (outcome.messages, 1e6, "µs a message")
    )
    if (cpu := outcome.server_cpu) is not None and done:
        share, each = cpu.total / outcome.seconds, cpu.total / done * scale
        facts.append(("server", f"{share:.0%} of a core, {each:.3g} {unit}"))
    if outcome.bottleneck:
        facts.append(("note", outcome.bottleneck))
    return facts


def _echoed(outcome: Outcome) -> list[tuple[str, str]]:
    plan = outcome.plan
    loop = (
        f"closed loop, {plan.depth} in flight on each connection"
        if plan.rate is None
        else f"open loop, {rate_text(plan.rate)} asked; latencies count from when each was due"
    )
    return [
        ("load", f"{plan.connections:,} connections × {plan.size:,} bytes; {loop}"),
        ("rate", f"{rate_text(outcome.rate)}, {bytes_text(outcome.rate * plan.size)}/s each way"),
        ("messages", f"{outcome.messages:,} in {outcome.seconds:.3g} s"),
    ]


def _flowed(outcome: Outcome) -> list[tuple[str, str]]:
    """Of a one-way load."""
    plan = outcome.plan
    return [
        ("load", f"{plan.connections:,} connections, {ONE_WAY[plan.mode]}"),
        *((name, flow_text(flow)) for name, flow in outcome.flows.items()),
    ]
