"""``anysock bench``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.values import AT_ONCE, COUNT, DURATION, OWN_FILE, SIZE, Value, write_file
from anysock.errors import UsageError
from anysock.extras import needs
from anysock.machine.process import sigterm_interrupts
from anysock.options.values import whole


def _list_of(each: Value) -> Value:
    """A list of such values, with commas between."""

    def parse(text: Any) -> tuple[Any, ...]:
        if isinstance(text, tuple):
            return text
        return tuple(each.convert(part, None, None) for part in text.split(","))

    return Value("list", parse)


@click.command(
    "bench", cls=Command, short_help="Compare I/O models and other servers on this machine."
)
@click.option(
    "-c",
    "--connections",
    type=_list_of(AT_ONCE),
    metavar="N,...",
    help="How many at once.  [default: 1,50,500; with --scale: 1 to 5000]",
)
@click.option("-s", "--size", "sizes", type=_list_of(SIZE), metavar="SIZE,...",
              default="64,4096,262144", show_default=True, help="Of a message.")  # fmt: skip
@click.option("--depth", type=AT_ONCE, default=1, show_default=True, metavar="N",
              help="Messages on the way on each connection.")  # fmt: skip
@click.option("--churn", is_flag=True, help="Also connect, echo a message, close, over and over.")
@click.option(
    "--socket-buffer",
    type=SIZE,
    metavar="SIZE",
    help="Of the server's sockets, for those servers that can be told.",
)
@click.option("--server", "names", multiple=True, metavar="NAME", help="Only this. Repeatable.")
@click.option("--baseline", metavar="NAME", help="What ratios are to.  [default: c-epoll]")
@click.option("--rounds", type=COUNT, default=10, show_default=True, metavar="N",
              help="At most so many; 6 are needed for an interval.")  # fmt: skip
@click.option("--duration", type=DURATION, default="700ms", show_default=True,
              help="Of one measurement.")  # fmt: skip
@click.option("--warmup", type=DURATION, default="300ms", show_default=True,
              help="Load for that long before each.")  # fmt: skip
@click.option(
    "--idle",
    type=Value("number", whole(0, 10**6)),
    default=2000,
    show_default=True,
    metavar="N",
    help="Idle connections whose memory is measured; 0: none.",
)
@click.option(
    "--generator",
    type=click.Choice(["c", "python"]),
    help="The load generator's worker.  [default: c, where there is a compiler]",
)
@click.option("--scale", is_flag=True, help="Sweep the connections, and show where it bends.")
@click.option("--json", "json_file", type=OWN_FILE, metavar="FILE",
              help="Kept up to date after each measurement.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what --json FILE holds.")
@click.option("--html", "html_file", type=OWN_FILE, metavar="FILE", help="A page with figures.")
def command(json_file: Path | None, html_file: Path | None, resume: bool, **asked: Any) -> None:
    """Compare I/O models and other servers on this machine.

    Each is started, loaded and stopped, in interleaved rounds, until the 95 % interval of each
    median ratio is within ±5 %, or there were --rounds of them. What is told: throughput, and its
    ratio to the base line; the server's CPU time a message; latencies; memory of an idle
    connection.

    Ctrl-C ends it; what was measured is shown, and with --json kept for --resume.
    """
    sigterm_interrupts()
    with needs("load"):
        from anysock.bench import servers as bench_servers
        from anysock.bench.comparison import Comparison, Results
        from anysock.bench.reports.text import comparison_report, scaling_report
        from anysock.bench.scale import Scaling
    if html_file is not None:
        with needs("report"):
            from anysock.bench.reports.pages import bench_page, scale_page
    from rich.console import Console

    if resume and json_file is None:
        raise UsageError("--resume needs the --json FILE of the run that was interrupted")
    console, status = wide_console(), Console(stderr=True)
    with bench_servers.c_tools() as tools:
        available = {server.name: server for server in bench_servers.all_servers(tools)}
        if resume:
            assert json_file is not None
            results = Results.read(json_file)
        else:
            results = _new_results(asked, available, tools is not None)
        settings = results.settings
        if settings.generator == "c" and tools is None:
            raise UsageError("the load generator in C needs a compiler: --generator python")

        def keep(results: Results) -> None:
            if json_file is not None:
                results.save(json_file, tables=False)

        with status.status("starting", refresh_per_second=2) as line:
            complete = Comparison(
                results,
                [available[name] for name in settings.servers if name in available],
                tools,
                told=line.update,
                kept=keep,
            ).run()
            if json_file is not None:
                results.save(json_file)
    if asked["scale"]:
        scaling = Scaling(results)
        console.print(scaling_report(scaling))
        if html_file is not None:
            write_file(html_file, scale_page(scaling))
    else:
        console.print(comparison_report(results))
        if html_file is not None:
            write_file(html_file, bench_page(results))
    sys.exit(0 if complete else 128 + signal.SIGINT)


def _new_results(asked: dict[str, Any], available: dict[str, Any], compiled: bool) -> Any:
    """Settings from the options, and nothing measured yet."""
    from anysock.bench import scale
    from anysock.bench.comparison import Results, Settings, Work, this_machine
    from anysock.bench.servers import C_EPOLL, our_server
    from anysock.engines import DEFAULT

    baseline = asked["baseline"] or (C_EPOLL if compiled else our_server(DEFAULT).name)
    unknown = [name for name in (*asked["names"], baseline) if name not in available]
    if unknown:
        raise UsageError(f"no such server: {', '.join(unknown)}; there are {', '.join(available)}")
    if why_not := available[baseline].why_not:
        raise UsageError(f"{baseline} can't be the base line: {why_not}")
    names = asked["names"] or tuple(available)
    if asked["scale"]:
        if not asked["names"]:
            names = tuple(n for n in available if available[n].ours or n == baseline)
        works = scale.works(asked["connections"] or scale.CONNECTIONS)
    else:
        works = tuple(
            Work(count, size, asked["depth"], socket_buffer=asked["socket_buffer"])
            for size in asked["sizes"]
            for count in asked["connections"] or (1, 50, 500)
        )
        if asked["churn"]:
            works += (Work(1, asked["sizes"][0], churn=True),)
    names = tuple(dict.fromkeys((baseline, *names)))
    return Results(
        Settings(
            works=works,
            servers=tuple(name for name in names if available[name].why_not is None),
            baseline=baseline,
            seconds=asked["duration"],
            warmup=asked["warmup"],
            most_rounds=asked["rounds"],
            generator=asked["generator"] or ("c" if compiled else "python"),
            idle=0 if asked["scale"] else asked["idle"],
        ),
        this_machine(),
        missing={name: available[name].why_not for name in names if available[name].why_not},
    )
