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

#: The names of `anysock.bench.work.kinds.KINDS`, which is imported when it is needed.
WORKS = ("echo", "lines", "frames", "redis", "http")


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
    "--work",
    "kind",
    type=click.Choice(WORKS),
    default="echo",
    show_default=True,
    help="What the servers do: send back bytes as they come, or lines or frames when they are "
    "whole; speak as Redis does, to redis-benchmark; or HTTP/1.1, to wrk.",
)
@click.option(
    "-c",
    "--connections",
    type=_list_of(AT_ONCE),
    metavar="N,...",
    help="Numbers of connections.  [default: 1,50,500; other work: 50; with --scale: 1 to 5000]",
)
@click.option(
    "-s",
    "--size",
    "sizes",
    type=_list_of(SIZE),
    metavar="SIZE,...",
    help="Sizes of a message.  [default: 64,4096,262144; lines and frames: 64; redis: 3]",
)
@click.option(
    "--depth",
    "depths",
    type=_list_of(AT_ONCE),
    metavar="N,...",
    help="Messages in flight on each connection.  [default: 1; lines, frames, redis: 1,16]",
)
@click.option("--churn", is_flag=True, help="Also measure a connection for each message.")
@click.option(
    "--socket-buffer",
    type=SIZE,
    metavar="SIZE",
    help="Buffer size of the server's sockets, for servers with such an option.",
)
@click.option(
    "--server", "names", multiple=True, metavar="NAME", help="Measure only this server. Repeatable."
)
@click.option(
    "--baseline",
    metavar="NAME",
    help="Server that the ratios compare with.  [default: c-epoll; lines, frames, redis: asyncio "
    "streams; http: uvicorn h11 uvloop]",
)
@click.option(
    "--rounds",
    type=COUNT,
    default=10,
    show_default=True,
    metavar="N",
    help="Maximum number; an interval needs 6.",
)
@click.option(
    "--duration",
    type=DURATION,
    default="700ms",
    show_default=True,
    help="Duration of one measurement.",
)
@click.option(
    "--warmup",
    type=DURATION,
    default="300ms",
    show_default=True,
    help="Duration of the load before each measurement.",
)
@click.option(
    "--idle",
    type=Value("number", whole(0, 10**6)),
    default=2000,
    show_default=True,
    metavar="N",
    help="Measure the memory of N idle connections, with --work echo; 0: do not.",
)
@click.option(
    "--generator",
    type=click.Choice(["c", "python"]),
    help="Language of our load generator.  [default: c, where there is a compiler]",
)
@click.option("--scale", is_flag=True, help="Sweep the number of connections.")
@click.option(
    "--json",
    "json_file",
    type=OWN_FILE,
    metavar="FILE",
    help="Write the results as JSON, after each measurement.",
)
@click.option("--resume", is_flag=True, help="Continue the run whose results --json FILE holds.")
@click.option(
    "--html",
    "html_file",
    type=OWN_FILE,
    metavar="FILE",
    help="Write the report as a page with figures.",
)
def command(
    kind: str, json_file: Path | None, html_file: Path | None, resume: bool, **asked: Any
) -> None:
    """Compare I/O models and other servers on this machine.

    Each server is started, loaded and stopped, in interleaved rounds, until the 95 % interval of
    each median ratio is within ±5 %, or after --rounds. The report shows throughput, and its ratio
    to the base line; the server's CPU time a message; latencies; memory of an idle connection.

    Ctrl-C ends the run and shows the results so far; --json keeps them for --resume.
    """
    sigterm_interrupts()
    with needs("load"):
        from anysock.bench.comparison import Comparison
        from anysock.bench.results import Results
        from anysock.bench.servers import all_servers, c_tools
        from anysock.bench.work.kinds import KINDS
    from rich.console import Console

    if resume and json_file is None:
        raise UsageError("--resume needs the --json FILE of the run that was interrupted")
    with c_tools() as tools:
        if resume:
            assert json_file is not None
            results = Results.read(json_file)
            work = KINDS[results.settings.works[0].kind]
            available = {server.name: server for server in all_servers(tools, work)}
        else:
            available = {server.name: server for server in all_servers(tools, KINDS[kind])}
            results = _new_results(KINDS[kind], asked, available, tools is not None)
        settings = results.settings
        if settings.generator == "c" and tools is None:
            raise UsageError("the load generator in C needs a compiler: --generator python")

        def keep(results: Results) -> None:
            if json_file is not None:
                results.save(json_file, tables=False)

        with Console(stderr=True).status("starting", refresh_per_second=2) as line:
            complete = Comparison(
                results,
                [available[name] for name in settings.servers if name in available],
                tools,
                told=line.update,
                kept=keep,
            ).run()
            if json_file is not None:
                results.save(json_file)
    _show(results, asked["scale"], html_file)
    sys.exit(0 if complete else 128 + signal.SIGINT)


def _new_results(
    kind: Any, asked: dict[str, Any], available: dict[str, Any], compiled: bool
) -> Any:
    """Settings from the options, and nothing measured yet."""
    from anysock.bench import comparison, scale

    for name in ("scale", "churn", "socket_buffer"):
        if asked[name] and not kind.is_echo:
            raise UsageError(f"--{name.replace('_', '-')} is for --work echo, not {kind.name}")
    for name, option in (("sizes", "size"), ("depths", "depth")):
        if asked[name] and kind.fixed:
            raise UsageError(f"--{option} is not for --work {kind.name}: it has one of its own")
    if asked["generator"] and kind.driver:
        raise UsageError(f"--generator is not for --work {kind.name}: {kind.driver} drives it")
    if asked["scale"]:
        works = scale.works(asked["connections"] or scale.CONNECTIONS)
    else:
        works = comparison.works(
            kind,
            asked["connections"] or (),
            asked["sizes"] or (),
            asked["depths"] or (),
            asked["socket_buffer"],
            churn=asked["churn"],
        )
    return comparison.new_results(
        available,
        kind,
        compiled=compiled,
        names=asked["names"],
        baseline=asked["baseline"],
        generator=asked["generator"],
        works=works,
        sweep=asked["scale"],
        seconds=asked["duration"],
        warmup=asked["warmup"],
        most_rounds=asked["rounds"],
        idle=asked["idle"] if kind.is_echo and not asked["scale"] else 0,
    )


def _show(results: Any, sweep: bool, html_file: Path | None) -> None:
    from anysock.bench.reports.text import comparison_report, scaling_report
    from anysock.bench.scale import Scaling

    scaling = Scaling(results)
    wide_console().print(scaling_report(scaling) if sweep else comparison_report(results))
    if html_file is not None:
        from anysock.bench.reports.pages import bench_page, scale_page

        write_file(html_file, scale_page(scaling) if sweep else bench_page(results))
