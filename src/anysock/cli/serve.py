"""``anysock serve``."""

from __future__ import annotations

import sys
from typing import Any

import click

from anysock.cli.options import with_options
from anysock.handlers import HANDLERS
from anysock.options import ServeOptions
from anysock.serving import serve

_HELP = (
    "Serve HANDLER until SIGTERM or SIGINT, then drain: exit code 0 when every connection came "
    "to its end, 1 when some had to be aborted.\n\n\b\nHANDLER is one of\n"
    + "".join(f"  {name:9}{what}\n" for name, what in HANDLERS.items())
    + "or package.module:function, an async def function of your own."
)


@click.command("serve", help=_HELP)
@click.argument("handler", default="echo")
@with_options
def command(handler: str, **keywords: Any) -> None:
    aborted = serve(handler, ServeOptions(**keywords))
    sys.exit(1 if aborted else 0)
