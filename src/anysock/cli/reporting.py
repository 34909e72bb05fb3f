"""Reports in files, of the commands that have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from anysock.cli.values import OUTPUT_FILE, OWN_FILE, write_file

F = TypeVar("F", bound=Callable[..., Any])


def with_reports(command: F) -> F:
    """Give `command` the options ``--json`` and ``--html``: `json_file` and `html_file`."""
    as_page = click.option(
        "--html", "html_file", type=OWN_FILE, metavar="FILE", help="Write the report as a page."
    )
    as_json = click.option(
        "--json",
        "json_file",
        type=OUTPUT_FILE,
        metavar="FILE",
        help="Write the report as JSON; -: to standard output.",
    )
    return as_json(as_page(command))


def is_stdout(json_file: Path | None) -> bool:
    """Whether ``--json -`` was given: the report in words goes to standard error then."""
    return str(json_file) == "-"


def write_json(json_file: Path | None, report: object) -> None:
    """Write `report` where ``--json`` says, if anywhere."""
    if json_file is None:
        return
    text = json.dumps(report, indent=1)
    if is_stdout(json_file):
        click.echo(text)
    else:
        write_file(json_file, text + "\n")
