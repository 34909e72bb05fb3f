"""``anysock serve``."""

from __future__ import annotations

import sys
from typing import Any

import click

from anysock.cli.completing import completing
from anysock.cli.helping import Command, GroupedOption
from anysock.cli.options import with_options
from anysock.errors import UsageError
from anysock.handlers import HANDLERS
from anysock.options.serve import OPTIONS, ServeOptions
from anysock.workers.serving import serve

_HELP = (
    "Serve HANDLER until SIGTERM or SIGINT, then drain: exit code 0 when every connection came "
    "to its end, 1 when some had to be aborted.\n\n\b\nHANDLER is one of\n"
    + "".join(f"  {name:9}{what}\n" for name, what in HANDLERS.items())
    + "\nor package.module:function, an async def function of your own.\n\n"
    "Each option but --port and --host is an environment variable, too: --drain-timeout is "
    "ANYSOCK_DRAIN_TIMEOUT. What is typed counts more. Durations take us, ms, s, m, h, and a bare "
    "number is seconds; sizes take B, KiB, MiB, GiB, kB, MB, GB."
)


@click.command("serve", cls=Command, short_help="Run a server.", help=_HELP)
@click.argument("handler", default="echo", shell_complete=completing(lambda: HANDLERS))
@click.option(
    "--lifespan",
    cls=GroupedOption,
    group=OPTIONS["bind"].group,
    envvar="ANYSOCK_LIFESPAN",
    metavar="NAME",
    help="What lives as long as the server, as package.module:function: an async context manager "
    "that is called with the server. What it gives is connection.state. Unset, it is the "
    "attribute lifespan of HANDLER, if it has one.",
)
@with_options
def command(handler: str, lifespan: str | None = None, **keywords: Any) -> None:
    if handler.isdecimal():  # as one would type after `python -m http.server`
        raise UsageError(f"{handler} is no handler; to listen on that port: --port {handler}")
    aborted = serve(handler, ServeOptions(**keywords), lifespan=lifespan or None)
    sys.exit(1 if aborted else 0)
