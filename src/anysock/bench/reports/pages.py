"""Reports as pages: one file each, with everything in it, that a browser shows without a network.

The figures are bars and lines, sorted, each under a sentence that says what it shows. (Those of
``anysock load`` have hundreds of points, and a pointer that reads them: see `charts`.)
"""

from __future__ import annotations

import datetime as dt
import html
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from anysock.bench.reports.bars import STYLE, Bar, Line, bars, lines
from anysock.bench.reports.wording import TOO_FEW_MEANS, percentile_text, time_text
from anysock.bench.results import Results, Row
from anysock.bench.scale import Scaling
from anysock.bench.work.kinds import OWN_GENERATORS

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --ground: #fff; --line: #d8dee4;
        --code: #f3f4f6; --note: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --ground: #12161b; --line: #343b43; --code: #1d232a; --note: #9aa5b1; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
       max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { background: var(--code); padding: .7rem; overflow-x: auto; }
table.facts td { white-space: normal; text-align: left; }
table.facts td:last-child { overflow-wrap: anywhere; }
table.claim td { white-space: normal; text-align: left; }
.note { color: var(--note); }
"""


def bench_page(results: Results) -> str:
    """The page of ``anysock bench``."""
    settings = results.settings
    rows = {work: results.rows(work) for work in settings.works}
    rows = {work: found for work, found in rows.items() if found}
    parts = []
    if not results.complete:
        parts.append("<p><strong>Interrupted: not all of it was measured.</strong></p>")
    parts.append("<h2>Throughput</h2>")
    parts.append(
        f"<p class=note>Messages beside those of {html.escape(settings.baseline)} in the same "
        "round: the median of the ratios, and the interval that holds the true one with 95 %.</p>"
    )
    for work, found in rows.items():
        parts += [f"<h3>{html.escape(work.name)}</h3>", throughput_bars(found, settings.baseline)]
    with_cpu = {work: _with_cpu(found) for work, found in rows.items() if _with_cpu(found)}
    if with_cpu:
        parts.append("<h2>CPU time a message</h2>")
    for work, measured in with_cpu.items():
        parts += [f"<h3>{html.escape(work.name)}</h3>", _cpu(measured, settings.baseline)]
    drawn = {work: _latency(found, settings.baseline) for work, found in rows.items()}
    parts.append("<h2>Latency</h2>")
    parts.append(
        "<p class=note>Of a closed loop that sends as fast as it is answered: how long a client "
        "waits when all send as fast as they can. A bar is the median; its line reaches to p99.</p>"
    )
    for work, bars_of_work in drawn.items():
        told = bars_of_work or f"<p class=note>{html.escape(TOO_FEW_MEANS)}.</p>"
        parts += [f"<h3>{html.escape(work.name)}</h3>", told]
    if results.idle:
        parts += ["<h2>An idle connection</h2>", _memory(results)]
    parts.append("<h2>All figures</h2>")
    for work, found in rows.items():
        parts += [f"<h3>{html.escape(work.name)}</h3>", _rows_table(found)]
    parts += _method(results)
    return plain_page("I/O models and servers, compared", parts, results.machine)


def _method(results: Results) -> list[str]:
    """What was not measured, and how the rest was."""
    parts: list[str] = []
    settings = results.settings
    if results.missing:
        parts.append("<h2>Not measured</h2>")
        parts.append(table_html(["", "why"], [list(each) for each in results.missing.items()]))
    parts.append("<h2>How</h2>")
    parts.append(
        f"<p>Each measurement: {settings.seconds:g} s after {settings.warmup:g} s of load, by "
        f"{OWN_GENERATORS.get(settings.generator, settings.generator)}, server and load on a core "
        "each, in interleaved rounds. The command:</p>"
        f"<pre>{html.escape(shlex.join(command_line()))}</pre>"
    )
    return parts


def scale_page(scaling: Scaling) -> str:
    """The page of ``anysock bench --scale``."""
    best = max(scaling.servers, key=lambda server: scaling.best(server)[1])
    at, most = scaling.best(best)
    parts = ["<h2>Throughput by connections</h2>"]
    parts.append(
        lines(
            f"{best} is the fastest, with {most:,.0f} messages/s at {at:,} connections.",
            [Line(each, scaling.rates(each), is_ours(each)) for each in scaling.servers],
            "connections",
            "messages/s",
        )
    )
    parts.append("<h2>p99 latency by connections</h2>")
    parts.append(
        lines(
            "With more connections, each waits longer for its turn (milliseconds).",
            [
                Line(each, [(x, y * 1e3) for x, y in scaling.p99s(each)], is_ours(each))
                for each in scaling.servers
            ],
            "connections",
            "ms",
        )
    )
    parts.append("<h2>Where it bends, and where it breaks</h2>")
    parts.append(table_html(["", *scaling.header], [[*row] for row in scaling.table()]))
    parts.append(f"<p class=note>{html.escape(scaling.meaning)}</p>")
    parts.append(f"<pre>{html.escape(shlex.join(command_line()))}</pre>")
    return plain_page("The cost of scale", parts, scaling.results.machine)


# -- figures --------------------------------------------------------------------------------------


def is_ours(server: str) -> bool:
    """Whether it is Anysock under one of its engines."""
    return server.startswith("anysock ")


def _kind(server: str, baseline: str) -> str:
    return "ours" if is_ours(server) else "base" if _is_reference(server, baseline) else ""


def _is_reference(server: str, baseline: str) -> bool:
    """Whether it is there to be compared with: the base line, or an echo in C."""
    return server == baseline or server.startswith("c-")


def _best(
    rows: Sequence[Row], key: Callable[[Row], float], baseline: str
) -> tuple[Row, Row] | None:
    """The best of ours, and of the others in Python, by the smallest `key`. None: one of
    the two is missing."""
    ours = [row for row in rows if is_ours(row.server)]
    others = [row for row in rows if not _kind(row.server, baseline)]
    return (min(ours, key=key), min(others, key=key)) if ours and others else None


def throughput_bars(rows: Sequence[Row], baseline: str) -> str:
    """Bars of messages a second, beside the base line's."""
    ratios = {row.server: row.ratio for row in rows if row.ratio is not None}
    with_ratio = [row for row in rows if row.server in ratios]
    shown = [
        Bar(
            row.server,
            ratio.median,
            f"{ratio.median:.2f}  ({row.rate:,.0f}/s)",
            ratio.low,
            ratio.high,
            _kind(row.server, baseline),
        )
        for row in with_ratio
        for ratio in [ratios[row.server]]
    ]
    says = f"Messages beside {baseline}."
    best = _best(with_ratio, lambda row: -ratios[row.server].median, baseline)
    if best is not None:
        mine, its = (row.server for row in best)
        says = (
            f"{mine} handles {ratios[mine].median:.2f} of the messages of {baseline}; "
            f"{its}, the fastest of the others in Python, {ratios[its].median:.2f}."
        )
    return bars(says, shown)


def _with_cpu(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.cpu is not None]


def _cpu(rows: Sequence[Row], baseline: str) -> str:
    shown = []
    for row in rows:
        text = f"{_micro(row.cpu)} µs"
        if row.user is not None and row.system is not None:
            text += f"  (user {_micro(row.user)}, system {_micro(row.system)})"
        shown.append(Bar(row.server, row.cpu or 0.0, text, None, None, _kind(row.server, baseline)))
    says = "What a message takes of the server's processors."
    if (best := _best(rows, lambda row: row.cpu or 0.0, baseline)) is not None:
        mine, its = best
        says = (
            f"A message takes {mine.server} {_micro(mine.cpu)} µs of the processor, and "
            f"{its.server}, the cheapest of the others in Python, {_micro(its.cpu)} µs."
        )
    return bars(says, shown, longest_first=False)


def _micro(seconds: float | None) -> str:
    return f"{(seconds or 0.0) * 1e6:.3g}"


def _latency(rows: Sequence[Row], baseline: str) -> str:
    told = [(row, row.echo.told(50), row.echo.told(99)) for row in rows]
    shown = [
        Bar(
            row.server,
            median,
            f"p50 {time_text(median)}, p99 {percentile_text(row.echo, 99)}",
            median if p99 is not None else None,
            p99,
            _kind(row.server, baseline),
        )
        for row, median, p99 in told
        if median is not None
    ]
    if not shown:
        return ""
    says = "How long an answer takes."
    known = [row for row, _, p99 in told if p99 is not None]
    if (best := _best(known, lambda row: row.echo.told(99) or 0.0, baseline)) is not None:
        mine, its = best
        says = (
            f"99 of 100 answers of {mine.server} come within {percentile_text(mine.echo, 99)}, "
            f"and of {its.server}, the best of the others in Python, within "
            f"{percentile_text(its.echo, 99)}."
        )
    return bars(says, shown, longest_first=False)


def _memory(results: Results) -> str:
    baseline = results.settings.baseline
    shown = [
        Bar(
            name,
            found["bytes"],
            f"{found['bytes']:,.0f} bytes; all together {found['cpu']:.2%} of a core",
            None,
            None,
            _kind(name, baseline),
        )
        for name, found in results.idle.items()
    ]
    mine = [bar for bar in shown if bar.kind == "ours"]
    least = min(mine or shown, key=lambda bar: bar.value)
    says = f"What a connection holds that says nothing: {least.value:,.0f} bytes of {least.name}."
    return bars(says, shown, longest_first=False)


# -- parts of a page ------------------------------------------------------------------------------


def _ratio_text(ratio: Any) -> str:
    if ratio is None:
        return "no ratio"
    told = f"{ratio.median:.2f}"
    return told if ratio.low is None else f"{told}, {ratio.low:.2f} to {ratio.high:.2f}"


def _rows_table(rows: list[Row]) -> str:
    header = ["server", "messages/s", "ratio (95 %)", "CPU µs", "user", "system", "p50", "p99"]
    return table_html(
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


def table_html(header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table; `kind` is ``facts`` for names and what there is to say of them."""

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    named = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{named}>{head}<tbody>{body}</tbody></table></div>'


def command_line() -> list[str]:
    return ["anysock", *sys.argv[1:]]


def plain_page(
    title: str, parts: Sequence[str], machine: dict[str, Any], *, style: str = "", script: str = ""
) -> str:
    """A page of `parts`, in HTML, under a title and a line about the machine; with a `style` and
    a `script` of its own."""
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
            f"<style>{_STYLE}{STYLE}{style}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="note">{html.escape(where)}</p>',
            *parts,
            f"<script>{script}</script>" if script else "",
            "</body></html>",
            "",
        ]
    )
