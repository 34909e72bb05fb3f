"""Reports as pages: one file each, with everything in it, that a browser shows without a network.

The figures are drawn by plotly, which is part of the page.
"""

from __future__ import annotations

import datetime as dt
import html
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.offline

from anysock.bench.generator.latencies import Latencies
from anysock.bench.load import Outcome
from anysock.bench.reports.wording import (
    LATENCY_HEADER,
    TOO_FEW_MEANS,
    bytes_text,
    latency_row,
    percentile_text,
    rate_text,
)
from anysock.bench.results import Results, Row, Work, this_machine
from anysock.bench.scale import Scaling
from anysock.bench.work.kinds import OWN_GENERATORS

# Colours that can be told apart by everybody (Okabe and Ito); a server keeps its own all over.
_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7f7f7f",
    "#f0e442", "#8c564b", "#17becf", "#bcbd22", "#9467bd", "#1b9e77", "#666666", "#a6761d",
)  # fmt: skip

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
       max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d8dee4;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f3f4f6; padding: .7rem; overflow-x: auto; }
table.claim td { white-space: normal; text-align: left; }
.note { color: #57606a; } .figure { width: 100%; min-height: 26rem; }
"""


def load_page(outcome: Outcome) -> str:
    """The page of ``anysock load``."""
    named = [
        (name, latencies)
        for name, latencies in (
            ("echo", outcome.echo),
            ("first byte", outcome.first_byte),
            ("connect", outcome.connect),
        )
        if len(latencies)
    ]
    return _page(
        "Load report",
        [
            _table(["", ""], _facts(outcome)),
            "<h2>Latency</h2>",
            _table(LATENCY_HEADER, [latency_row(*each) for each in named]),
            _note(named),
            _figure(_curves(named, {name: _COLOURS[i] for i, (name, _) in enumerate(named)})),
        ],
        this_machine(),
    )


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    plan = outcome.plan
    loop = (
        f"closed loop, {plan.depth} in flight on each connection"
        if plan.rate is None
        else f"open loop, {rate_text(plan.rate)} asked; latencies count from when each was due"
    )
    facts = [
        ("address", str(plan.address)),
        ("load", f"{plan.connections:,} connections × {plan.size:,} bytes; {loop}"),
        ("rate", f"{rate_text(outcome.rate)}, {bytes_text(outcome.rate * plan.size)}/s each way"),
        ("messages", f"{outcome.messages:,} in {outcome.seconds:.3g} s"),
        ("connections opened", f"{outcome.opened:,}"),
        *((f"error: {kind}", f"{count:,}") for kind, count in sorted(outcome.errors.items())),
        ("never answered", f"{outcome.unanswered:,}"),
        ("load side", ", ".join(f"{share:.0%}" for share in outcome.load_cpu) + " of a core"),
    ]
    if (cpu := outcome.server_cpu) is not None and outcome.messages:
        told = f"{cpu.total / outcome.seconds:.0%} of a core, "
        facts.append(("server", f"{told}{cpu.total / outcome.messages * 1e6:.3g} µs a message"))
    if outcome.bottleneck:
        facts.append(("note", outcome.bottleneck))
    return facts


def bench_page(results: Results) -> str:
    """The page of ``anysock bench``."""
    settings = results.settings
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(settings.servers)}
    rows = {work: results.rows(work) for work in settings.works}
    rows = {work: found for work, found in rows.items() if found}
    plain = [work for work in rows if not work.churn]
    parts = []
    if not results.complete:
        parts.append("<p><strong>Interrupted: not all of it was measured.</strong></p>")
    parts.append("<h2>Throughput</h2>")
    parts.append(
        f"<p>Point at a bar for its ratio to {html.escape(settings.baseline)} in the same round: "
        "the median, and the interval that holds the true one with 95 %.</p>"
    )
    for like in dict.fromkeys((work.size, work.depth) for work in plain):
        of_size = {work: rows[work] for work in plain if (work.size, work.depth) == like}
        parts.append(_figure(_throughput(of_size, colours)))
    parts.append("<h2>CPU time a message</h2>")
    parts += [
        _figure(_cpu(work, rows[work]))
        for work in plain
        if any(row.cpu is not None for row in rows[work])
    ]
    parts.append("<h2>Latency</h2>")
    parts.append(
        "<p>Of a closed loop that sends as fast as it is answered: how long a client waits "
        "when all clients send as fast as they can.</p>"
    )
    for work in plain:
        figure = _curves([(row.server, row.echo) for row in rows[work]], colours)
        figure.update_layout(title=work.name)
        parts += [_figure(figure), _note((row.server, row.echo) for row in rows[work])]
    if results.idle:
        parts.append("<h2>An idle connection</h2>")
        parts.append(_figure(_memory(results, colours)))
    parts.append("<h2>All figures</h2>")
    for work, found in rows.items():
        parts += [f"<h3>{html.escape(work.name)}</h3>", _rows_table(found)]
    parts += _method(results)
    return _page("I/O models and servers, compared", parts, results.machine)


def _method(results: Results) -> list[str]:
    """What was not measured, and how the rest was."""
    parts: list[str] = []
    settings = results.settings
    if results.missing:
        parts.append("<h2>Not measured</h2>")
        parts.append(_table(["", "why"], [list(each) for each in results.missing.items()]))
    parts.append("<h2>How</h2>")
    parts.append(
        f"<p>Each measurement: {settings.seconds:g} s after {settings.warmup:g} s of load, by "
        f"{OWN_GENERATORS.get(settings.generator, settings.generator)}, server and load on a core "
        "each, in interleaved rounds. The command:</p>"
        f"<pre>{html.escape(shlex.join(_command()))}</pre>"
    )
    return parts


def scale_page(scaling: Scaling) -> str:
    """The page of ``anysock bench --scale``."""
    colours = {
        name: _COLOURS[place % len(_COLOURS)]
        for place, name in enumerate(scaling.results.settings.servers)
    }
    parts = []
    for title, unit, values in (
        ("Throughput by connections", "messages/s", scaling.rates),
        ("p99 latency by connections", "ms", scaling.p99s),
    ):
        figure = go.Figure()
        for server in scaling.servers:
            points = values(server)
            figure.add_scatter(
                x=[count for count, _ in points],
                y=[value * (1e3 if unit == "ms" else 1) for _, value in points],
                name=server,
                mode="lines+markers",
                line={"color": colours[server]},
            )
        figure.update_layout(
            title=title,
            xaxis={"title": "connections", "type": "log"},
            yaxis={"title": unit, "type": "log"},
        )
        parts.append(_figure(figure))
    parts.append("<h2>Where it bends, and where it breaks</h2>")
    parts.append(_table(["", *scaling.header], [[*row] for row in scaling.table()]))
    parts.append(f"<p class=note>{html.escape(scaling.meaning)}</p>")
    parts.append(f"<pre>{html.escape(shlex.join(_command()))}</pre>")
    return _page("The cost of scale", parts, scaling.results.machine)


# -- figures --------------------------------------------------------------------------------------


def _throughput(rows: dict[Work, list[Row]], colours: dict[str, str]) -> go.Figure:
    figure = go.Figure()
    names = dict.fromkeys(row.server for found in rows.values() for row in found)
    for name in names:
        of_name = [(work, row) for work, found in rows.items() for row in found]
        mine = [(work, row) for work, row in of_name if row.server == name]
        spread = [row.ratio for _, row in mine]
        figure.add_bar(
            x=[work.name for work, _ in mine],
            y=[row.rate for _, row in mine],
            name=name,
            marker={"color": colours[name]},
            customdata=[_ratio_text(each) for each in spread],
            hovertemplate="%{x}: %{y:,.0f}/s (%{customdata})<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="group", yaxis={"title": "messages/s"})
    return figure


def _cpu(work: Work, rows: list[Row]) -> go.Figure:
    measured = [row for row in rows if row.user is not None and row.system is not None]
    figure = go.Figure()
    for part, colour in (("user", "#0072b2"), ("system", "#9aa5b1")):
        figure.add_bar(
            x=[row.server for row in measured],
            y=[getattr(row, part) * 1e6 for row in measured],
            name=part,
            marker={"color": colour},
        )
    figure.update_layout(
        title=work.name, barmode="stack", yaxis={"title": "µs of the server's CPU a message"}
    )
    return figure


def _curves(named: Iterable[tuple[str, Latencies]], colours: dict[str, str]) -> go.Figure:
    """Latency by percentile; the axis stretches the nines, as HDR plots do. A curve ends where 10
    samples are left."""
    figure = go.Figure()
    for name, latencies in named:
        points = latencies.curve()
        figure.add_scatter(
            x=[1 / (1 - percent / 100) for percent, _ in points],
            y=[took * 1e3 for _, took in points],
            name=name,
            mode="lines",
            line={"color": colours[name]},
            customdata=[f"{percent:.6g}" for percent, _ in points],
            hovertemplate="p%{customdata}: %{y:.3g} ms<extra>" + name + "</extra>",
        )
    shares = (0, 50, 90, 99, 99.9, 99.99, 99.999)
    figure.update_layout(
        xaxis={
            "title": "percent of the messages",
            "type": "log",
            "tickvals": [1 / (1 - share / 100) for share in shares],
            "ticktext": [f"{share:g}" for share in shares],
        },
        yaxis={"title": "ms", "type": "log"},
    )
    return figure


def _memory(results: Results, colours: dict[str, str]) -> go.Figure:
    names = [name for name in results.settings.servers if name in results.idle]
    figure = go.Figure()
    figure.add_bar(
        x=names,
        y=[results.idle[name]["bytes"] for name in names],
        marker={"color": [colours[name] for name in names]},
        customdata=[f"{results.idle[name]['cpu']:.2%}" for name in names],
        hovertemplate="%{x}: %{y:,.0f} bytes each; all: %{customdata} of a core<extra></extra>",
    )
    figure.update_layout(yaxis={"title": "bytes of memory", "type": "log"}, showlegend=False)
    return figure


def _note(named: Iterable[tuple[str, Latencies]]) -> str:
    """The note below percentiles, about their samples."""
    told = "A curve ends where 10 messages are left."
    if any(latencies.lacking() for _, latencies in named):
        told = f"{TOO_FEW_MEANS}. {told}"
    return f"<p class=note>{html.escape(told)}</p>"


# -- parts of a page ------------------------------------------------------------------------------


def _ratio_text(ratio: Any) -> str:
    if ratio is None:
        return "no ratio"
    told = f"{ratio.median:.2f}"
    return told if ratio.low is None else f"{told}, {ratio.low:.2f} to {ratio.high:.2f}"


def _rows_table(rows: list[Row]) -> str:
    header = ["server", "messages/s", "ratio (95 %)", "CPU µs", "user", "system", "p50", "p99"]
    return _table(
        [*header, "p99.9", "rounds"],
        [
            [
                row.server + (" *" if row.load_bound else ""),
                f"{row.rate:,.0f}",
                _ratio_text(row.ratio),
                *(
                    "" if cpu is None else f"{cpu * 1e6:.2f}"
                    for cpu in (row.cpu, row.user, row.system)
                ),
                *(percentile_text(row.echo, percent) for percent in (50, 99, 99.9)),
                str(row.rounds),
            ]
            for row in rows
        ],
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _figure(figure: go.Figure) -> str:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 60},
        legend={"orientation": "h", "y": -0.2},
        font={"size": 13},
    )
    drawn: str = plotly.offline.plot(
        figure,
        output_type="div",
        include_plotlyjs=False,
        config={"displaylogo": False, "responsive": True},
    )
    return f'<div class="figure">{drawn}</div>'


def _command() -> list[str]:
    return ["anysock", *sys.argv[1:]]


def _page(title: str, parts: list[str], machine: dict[str, Any]) -> str:
    return plain_page(title, parts, machine, script=plotly.offline.get_plotlyjs())


def plain_page(
    title: str, parts: Sequence[str], machine: dict[str, Any], *, script: str = ""
) -> str:
    """A page of `parts`, in HTML, under a title and a line about the machine."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {versions}; "
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Anysock: {html.escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<script>{script}</script></head><body>" if script else "</head><body>",
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="note">{html.escape(where)}</p>',
            *parts,
            "</body></html>",
            "",
        ]
    )
