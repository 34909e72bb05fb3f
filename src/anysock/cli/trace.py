"""``anysock trace``: what traces are made into."""

from __future__ import annotations

import json
from pathlib import Path

import click

from anysock.cli.helping import Command, Commands
from anysock.cli.values import INPUT_FILE, OUTPUT_FILE, write_file
from anysock.traces.convert import trace_events
from anysock.traces.format import read

_OUTPUT = "Where it goes; - is standard output.  [default: beside FILE, as {}]"


@click.group("trace", cls=Commands, short_help="Show traces, or convert them.")
def command() -> None:
    """Show a trace as a page for a browser, or convert it for Perfetto.

    FILE is what `anysock serve --trace`, `anysock sim --trace-file` or anysock.trace() has written.
    """


@command.command("view", cls=Command, short_help="Make a page that shows a trace.")
@click.argument("file", type=INPUT_FILE)
@click.option("-o", "--output", type=OUTPUT_FILE, metavar="PAGE", help=_OUTPUT.format("FILE.html"))
def view(file: str, output: Path | None) -> None:
    """Make one page of the trace in FILE, which a browser shows without a network: lanes of tasks
    or hosts, what was sent, and the loop, one step after the other."""
    from anysock.traces.page import trace_page

    _write(trace_page(*read(Path(file))), output, Path(f"{file}.html"))


@command.command("convert", cls=Command, short_help="Make a file for Perfetto of a trace.")
@click.argument("file", type=INPUT_FILE)
@click.option("-o", "--output", type=OUTPUT_FILE, metavar="OUT", help=_OUTPUT.format("FILE.json"))
def convert(file: str, output: Path | None) -> None:
    """Make trace events of the trace in FILE, which ui.perfetto.dev and chrome://tracing show."""
    head, events = read(Path(file))
    _write(json.dumps(trace_events(head, events)) + "\n", output, Path(f"{file}.json"))


def _write(text: str, output: Path | None, otherwise: Path) -> None:
    target = output or otherwise
    if str(target) == "-":
        click.echo(text, nl=False)
        return
    write_file(target, text)
    click.echo(f"wrote {target}")
