"""``anysock engines``."""

from __future__ import annotations

import json

import click

from anysock.cli.helping import Command
from anysock.engines import DEFAULT, ENGINES


@click.command("engines", cls=Command, short_help="Show the engines, and which are available.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def command(as_json: bool) -> None:
    """Show the engines: how each waits, and whether it is available here."""
    if as_json:
        rows = [
            {
                "name": entry.name,
                "default": entry.name == DEFAULT,
                "when_no_data": entry.when_no_data,
                "clients": entry.clients,
                "idle_cpu": entry.idle_cpu,
                "available": entry.why_not() is None,
                "why_not": entry.why_not(),
            }
            for entry in ENGINES.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("engine", no_wrap=True)
    table.add_column("when no data is there, recv ...", ratio=1)
    table.add_column("clients at once", no_wrap=True)
    table.add_column("idle CPU", no_wrap=True)
    table.add_column("here")
    for entry in ENGINES.values():
        reason = entry.why_not()
        default = " *" if entry.name == DEFAULT else ""
        table.add_row(
            entry.name + default,
            entry.when_no_data,
            entry.clients,
            entry.idle_cpu,
            f"no: {escape(reason)}" if reason else "yes",
        )
    console = Console()
    console.print(table)
    console.print("* the default")
