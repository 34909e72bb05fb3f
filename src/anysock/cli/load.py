"""``anysock load``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.trust import with_trust
from anysock.cli.values import (
    AT_ONCE,
    COUNT,
    DURATION,
    OUTPUT_FILE,
    OWN_FILE,
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


def _bound(text: Any) -> Any:
    with needs("load"):
        from anysock.bench.search import Bound
    return Bound.parse(text)


@click.command("load", cls=Command, short_help="Load an echo server, and tell how it takes it.")
@with_address
@click.option(
    "-c",
    "--connections",
    type=COUNT,
    default=50,
    show_default=True,
    metavar="N",
    help="How many at once.",
)
@click.option("-s", "--size", type=SIZE, default="64", show_default=True, help="Of a message.")
@click.option(
    "--depth",
    type=AT_ONCE,
    default=1,
    show_default=True,
    metavar="N",
    help="Messages on the way on each connection, in a closed loop.",
)
@click.option(
    "--duration",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long to measure, after --warmup.",
)
@click.option("--messages", type=COUNT, metavar="N", help="End after N messages instead.")
@click.option(
    "--warmup",
    type=DURATION,
    help="Load for that long before it counts.  [default: 1s, and none with --messages]",
)
@click.option(
    "--rate",
    type=Value("rate", number(0.001, 1e9)),
    metavar="N",
    help="N messages a second, all connections together, sent on schedule: an open loop. Without "
    "it, each connection sends when it has its answer: a closed loop.",
)
@click.option(
    "--find-rate",
    "bound",
    type=Value("bound", _bound),
    metavar="BOUND",
    help="Search the highest rate that keeps BOUND, such as 'p99<1ms'; each rate tried for "
    "--duration (2s, unless told).",
)
@click.option(
    "--churn", type=COUNT, metavar="N", help="Open a new connection after every N messages."
)
@click.option(
    "--reset", is_flag=True, help="Close with a reset, which leaves no TIME_WAIT; with --churn."
)
@click.option("--lines", is_flag=True, help="Messages are lines of text, with CRLF.")
@click.option(
    "--processes",
    type=Value("number", whole(1, MAX_PROCESSES)),
    default=1,
    show_default=True,
    metavar="N",
    help="How many processes share the connections, where one is too slow.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="5s",
    show_default=True,
    help="A connection without an answer for that long is given up.",
)
@with_trust
@click.option(
    "--json",
    "json_file",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="The report as JSON; -: to stdout.",
)
@click.option("--html", "html_file", type=OWN_FILE, metavar="FILE", help="The report as a page.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    address: Address,
    bound: Any,
    json_file: Path | None,
    html_file: Path | None,
    quiet: bool,
    **asked: Any,
) -> None:
    """Load the echo server at ADDRESS (host:port), or at ADDRESS PORT, check every byte, and tell
    how long the answers took.

    With --rate, messages are sent on schedule, whatever the server does, and a latency counts from
    the moment that its message was due: a stall of the server is not hidden by sending less
    meanwhile (coordinated omission). Without, the report says that its loop was closed.

    --json and --html write the report to files as well; - is standard output, for --json.
    Exit code 0 when every message was answered as sent, 1 when something went wrong.
    """
    with needs("load"):
        from anysock.bench.generator.plan import Plan
        from anysock.bench.load import load
        from anysock.bench.reports.text import outcome_report, search_report, step_text
        from anysock.bench.search import best, find_rate
    if html_file is not None:
        with needs("report"):
            from anysock.bench.reports.pages import load_page
    from rich.console import Console

    from anysock.cli.progress import LoadProgress

    if asked["warmup"] is None:
        asked["warmup"] = 0.0 if asked["messages"] else 1.0
    elif asked["warmup"] and asked["messages"]:
        raise UsageError("with --messages, exactly so many are sent: no --warmup")
    if bound is not None:
        if asked["rate"] is not None or asked["messages"] is not None:
            raise UsageError(
                "--find-rate chooses the rate, for a --duration: no --rate, --messages"
            )
        source = click.get_current_context().get_parameter_source("duration")
        if source == click.core.ParameterSource.DEFAULT:
            asked["duration"] = 2.0
    plan = Plan(address=address, **asked).check()
    to_stdout = str(json_file) == "-"
    console = wide_console(stderr=to_stdout)
    shown = Console(stderr=True)

    def run(plan: Plan) -> Any:
        with LoadProgress(shown, plan, quiet=quiet) as progress:
            return load(plan, progress)

    if bound is None:
        outcome = run(plan)
        told = outcome.to_dict()
        console.print(outcome_report(outcome))
        ok = outcome.ok
    else:
        steps = find_rate(plan, bound, run, lambda step: console.print(step_text(step)))
        console.print(search_report(bound, steps))
        found = best(steps)
        ok = found is not None
        outcome = found.outcome if found else steps[-1].outcome if steps else None
        told = {
            "bound": str(bound),
            "rate": found.rate if found else None,
            "steps": [
                {"rate": step.rate, "why_not": step.why_not, **step.outcome.to_dict()}
                for step in steps
            ],
        }
    if to_stdout:
        click.echo(json.dumps(told, indent=1))
    elif json_file is not None:
        write_file(json_file, json.dumps(told, indent=1) + "\n")
    if html_file is not None and outcome is not None:
        write_file(html_file, load_page(outcome))
    sys.exit(0 if ok else 1)
