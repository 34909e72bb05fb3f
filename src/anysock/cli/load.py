"""``anysock load``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from anysock.bench.generator.plan import MODES
from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.reporting import is_stdout, with_reports, write_json
from anysock.cli.speaking_for import with_proxy_header
from anysock.cli.trust import with_trust
from anysock.cli.values import (
    AT_ONCE,
    COUNT,
    DURATION,
    SIZE,
    Value,
    write_file,
)
from anysock.cli.where import with_address
from anysock.errors import UsageError
from anysock.extras import needs
from anysock.net.addresses import Address
from anysock.options.values import number, whole

MAX_PROCESSES = 1024

# How many intervals there are where none was asked for, at most.
_MOST_TOLD = 600


def _bound(text: Any) -> Any:
    with needs("load"):
        from anysock.bench.search import Bound
    return Bound.parse(text)


@click.command("load", cls=Command, short_help="Load an echo server, and measure its latency.")
@with_address
@click.option(
    "-c",
    "--connections",
    type=COUNT,
    default=50,
    show_default=True,
    metavar="N",
    help="Number of connections.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="echo",
    show_default=True,
    help="Throughput one way, as iperf3 measures it: to a server that answers nothing (sink: such "
    "as discard), from one that sends without end (source: such as chargen), or both at once.",
)
@click.option(
    "-s",
    "--size",
    type=SIZE,
    help="Size of a message; of a one-way --mode, what is sent at once.  [default: 64; 128KiB]",
)
@click.option(
    "--depth",
    type=AT_ONCE,
    default=1,
    show_default=True,
    metavar="N",
    help="Messages in flight on each connection, in a closed loop.",
)
@click.option(
    "--duration",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long to measure, after --warmup.",
)
@click.option(
    "--messages", type=COUNT, metavar="N", help="End after N messages instead of --duration."
)
@click.option(
    "--warmup",
    type=DURATION,
    help="Duration of the load before the measurement.  [default: 1s; 0 with --messages]",
)
@click.option(
    "-i",
    "--interval",
    type=DURATION,
    help="Print a line after each interval, such as 1s: messages, bytes, errors, percentiles. The "
    "report as JSON and as a page has the same, without it of each second.",
)
@click.option(
    "--rate",
    type=Value("rate", number(0.001, 1e9)),
    metavar="N",
    help="Open loop: send N messages a second on schedule, over all connections. Without it, the "
    "loop is closed: each connection sends the next message when it has the answer.",
)
@click.option(
    "--find-rate",
    "bound",
    type=Value("bound", _bound),
    metavar="BOUND",
    help="Search for the highest rate that keeps BOUND, such as 'p99<1ms'. Each rate is tried for "
    "--duration (by default 2s).",
)
@click.option(
    "--churn", type=COUNT, metavar="N", help="Open a new connection after every N messages."
)
@click.option(
    "--reset", is_flag=True, help="Close with a reset, which leaves no TIME_WAIT; with --churn."
)
@click.option("--lines", is_flag=True, help="Messages are lines of text, with CRLF.")
@click.option(
    "--frames", is_flag=True, help="Messages are frames: 4 bytes of length, and as many bytes."
)
@click.option(
    "--processes",
    type=Value("number", whole(1, MAX_PROCESSES)),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of processes that share the connections.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Give up a connection that has had no answer for this time.",
)
@with_trust
@with_proxy_header
@with_reports
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    address: Address,
    bound: Any,
    json_file: Path | None,
    html_file: Path | None,
    quiet: bool,
    **asked: Any,
) -> None:
    """Load the echo server at ADDRESS (host:port), or at ADDRESS PORT, check every byte, and
    measure how long the answers take.

    With --rate, messages are sent on schedule, whatever the server does, and a latency counts from
    the time when the message was due. So a stall of the server is not hidden by sending less during
    the stall (coordinated omission). Without --rate, the report says that the loop was closed.

    With --mode sink, source or both, data flow as fast as they can, and nothing is checked.

    Exit code 0 when every message was answered as sent, 1 when something went wrong.
    """
    with needs("load"):
        from anysock.bench.load import Outcome, load
        from anysock.bench.reports.lines import Lines
        from anysock.bench.reports.text import outcome_report, search_report, step_text
        from anysock.bench.search import Search, find_rate
    from rich.console import Console

    from anysock.cli.progress import LoadProgress

    by_interval = asked["interval"] is not None
    plan = _plan(address, bound, asked)
    console = wide_console(stderr=is_stdout(json_file))
    terminal = Console(stderr=True)

    def run(plan: Any) -> Any:
        if by_interval:
            return load(plan, Lines(plan, console))
        with LoadProgress(terminal, plan, quiet=quiet) as progress:
            return load(plan, progress)

    if bound is None:
        found: Any = run(plan)
        console.print(outcome_report(found))
    else:
        steps = find_rate(plan, bound, run, lambda step: console.print(step_text(step)))
        found = Search(bound, steps)
        console.print(search_report(found))
    write_json(json_file, found.to_dict())
    if html_file is not None:
        from anysock.bench.reports.load_pages import load_page, search_page

        page = load_page(found) if isinstance(found, Outcome) else search_page(found)
        write_file(html_file, page)
    sys.exit(0 if found.ok else 1)


def _plan(address: Address, bound: Any, asked: dict[str, Any]) -> Any:
    """The plan that the options ask for, with the defaults that depend on others."""
    from anysock.bench.generator.plan import Plan

    if asked["warmup"] is None:
        asked["warmup"] = 0.0 if asked["messages"] else 1.0
    elif asked["warmup"] and asked["messages"]:
        raise UsageError("with --messages, exactly that number is sent: no --warmup")
    if bound is not None:
        if asked["mode"] != "echo":
            raise UsageError(f"--mode {asked['mode']} has no latencies: no --find-rate")
        if asked["rate"] is not None or asked["messages"] is not None:
            raise UsageError(
                "--find-rate chooses the rate, for a --duration: no --rate, --messages"
            )
        source = click.get_current_context().get_parameter_source("duration")
        if source == click.core.ParameterSource.DEFAULT:
            asked["duration"] = 2.0
    if asked["size"] is None:
        asked["size"] = 64 if asked["mode"] == "echo" else 128 * 1024
    if asked["interval"] is None:
        # Of a long load not each second, which a page could not show.
        asked["interval"] = max(1.0, math.ceil(asked["duration"] / _MOST_TOLD))
    return Plan(address=address, **asked).check()
