"""``anysock sim``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from anysock.cli.completing import Choices, completing
from anysock.cli.helping import Command
from anysock.cli.values import COUNT, DURATION, INPUT_FILE, OWN_FILE, SIZE, Value
from anysock.errors import UsageError
from anysock.handlers import HANDLERS
from anysock.options.values import flag, whole

#: Histories, when neither their number nor a time is given.
HISTORIES = 1000

MAX_JOBS = 256

# Such a seed can be written in JSON, and read by everybody.
MAX_SEED = 2**53

# What a history is made of: with a file that holds all of it, it can't be said again.
_IN_THE_FILE = (
    "clients", "messages", "size", "faults", "options", "check", "swarm", "tls", "seed",
    "histories", "seconds", "jobs", "keep_going", "require_faults", "check_determinism",
)  # fmt: skip


def _faults(text: Any) -> Any:
    from anysock.engines.sim.faults import parse

    return (text, parse(text)) if isinstance(text, str) else text


def _known_faults() -> Choices:
    from anysock.engines.sim.fault_kinds import FAULTS, PRESETS

    presets = {name: f"{len(kinds)} kinds" for name, kinds in PRESETS.items()}
    return presets | {name: fault.help for name, fault in FAULTS.items()}


def _known_checks() -> Choices:
    from anysock.sim.cases import CHECKS

    return CHECKS


@click.command("sim", cls=Command, short_help="Explore hostile networks, simulated, by seed.")
@click.argument("handler", default="echo", shell_complete=completing(lambda: HANDLERS))
@click.option(
    "-c",
    "--clients",
    type=Value("number", whole(0, 10_000)),
    default=20,
    show_default=True,
    metavar="N",
    help="Clients of each history.",
)
@click.option(
    "--messages",
    type=Value("number", whole(0, 100_000)),
    default=10,
    show_default=True,
    metavar="N",
    help="Maximum number of messages of a client.",
)
@click.option(
    "-s",
    "--size",
    type=SIZE,
    default="1000",
    show_default=True,
    help="Maximum size of a message.",
)
@click.option(
    "-n",
    "--histories",
    type=COUNT,
    metavar="N",
    help=f"How many histories there are.  [default: {HISTORIES}; with --time: no limit]",
)
@click.option(
    "--time", "seconds", type=DURATION, metavar="LIMIT", help="Begin no history after this time."
)
@click.option(
    "--seed",
    type=Value("number", whole(0, MAX_SEED)),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the first history; each further one has the next.",
)
@click.option(
    "--faults",
    type=Value("faults", _faults),
    default="hostile",
    show_default=True,
    metavar="KIND,...",
    shell_complete=completing(_known_faults),
    help="What may go wrong: none, calm, rough, hostile, or kinds by name, such as reset=1%,split. "
    "-KIND takes one out: hostile,-reset.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the server, such as max-connections=5, in all histories. Repeatable.",
)
@click.option(
    "--check",
    metavar="NAME",
    shell_complete=completing(_known_checks),
    help="What clients are to be answered: echo, lines, none; or package.module:function, a client "
    "of your own (async, called with a connection), or what judges a history. [default: that of "
    "HANDLER, or none]",
)
@click.option(
    "--swarm/--no-swarm",
    default=True,
    show_default=True,
    help="Whether each history has faults, options and clients of its own choice; without, each "
    "has all faults, no options, and clients that all do the same.",
)
@click.option("--tls", is_flag=True, help="Let server and clients speak TLS.")
@click.option(
    "-j",
    "--jobs",
    type=Value("number", whole(1, MAX_JOBS)),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the histories. The results are the same.",
)
@click.option("--keep-going", is_flag=True, help="Do not stop at the first history that fails.")
@click.option(
    "--replay", type=INPUT_FILE, metavar="FILE", help="Repeat the history that is in FILE."
)
@click.option(
    "--trace", is_flag=True, help="Print all that has happened in the history that fails."
)
@click.option(
    "--trace-file",
    type=OWN_FILE,
    metavar="FILE",
    help="Write the history that fails as a trace, for `anysock trace view`.",
)
@click.option(
    "--html",
    "html_file",
    type=OWN_FILE,
    metavar="FILE",
    help="Write the history that fails as a page.",
)
@click.option(
    "--confirm",
    default="selector",
    show_default=True,
    metavar="ENGINE,...",
    help="Try what fails under these engines, over real sockets; none: do not.",
)
@click.option(
    "--check-determinism",
    is_flag=True,
    help="Run each history three times, in two processes, and compare all that happens.",
)
@click.option(
    "--require-faults",
    is_flag=True,
    help="Fail if a kind of fault that was asked for by name has never struck.",
)
@click.option(
    "--real-world",
    default="refuse",
    show_default=True,
    metavar="KIND,...",
    help="What code may touch of the real machine: refuse (nothing), allow (all), or kinds: "
    "clock, random, files, signals, sleep; simulate gives it clocks and random numbers of the "
    "history.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(handler: str, **given: Any) -> None:
    """Run the real server with HANDLER, and clients, through many histories of a simulated, hostile
    network, with a virtual clock. Each history comes of a seed, and can be repeated.

    HANDLER is one of ours, or package.module:function, as for `anysock serve`. The first history
    that fails is made as small as possible, told as a story, written to a file in .sim, and tried
    under a real engine.

    Exit code 0 when no history has failed, 1 when one has.
    """
    source = click.get_current_context().get_parameter_source
    typed = {name for name in given if source(name) is not ParameterSource.DEFAULT}
    if given["replay"] is not None:
        from anysock.cli.simulating import replay

        for name in _IN_THE_FILE:
            if name in typed:
                shown = {"seconds": "--time", "options": "--option"}.get(name, flag(name))
                raise UsageError(f"--replay repeats what is in its file: no {shown}")
        named = handler if source("handler") is not ParameterSource.DEFAULT else None
        sys.exit(replay(Path(given["replay"]), named, given))
    from anysock.cli.simulating import explore

    sys.exit(explore(handler, given))
