"""``anysock engines``."""

from __future__ import annotations

import json

import click

from anysock.cli.helping import Command
from anysock.engines import DEFAULT, ENGINES
from anysock.machine import compiled


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

    from rich.markup import escape

    from anysock.bench.reports.sheets import Sheet
    from anysock.cli.consoles import wide_console
    from anysock.engines.sim import is_compiled

    table = Sheet()
    table.column("engine")
    table.column("when no data is there, recv ...", words=True)
    table.column("clients at once", left=True)
    table.column("idle CPU", left=True)
    table.column("here", words=True)
    for entry in ENGINES.values():
        reason = entry.why_not()
        default = " *" if entry.name == DEFAULT else ""
        table.row(
            entry.name + default,
            entry.when_no_data,
            entry.clients,
            entry.idle_cpu,
            f"no: {escape(reason)}" if reason else "yes",
        )
    console = wide_console()
    console.print(table)
    console.print("* the default")
    console.print(f"The path of a message under our own loop and asyncio's: {compiled.in_words()}.")
    of_sim = "compiled" if is_compiled else "Python"
    console.print(f"The simulated network of anysock sim: {of_sim}.")
