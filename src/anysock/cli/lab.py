"""``anysock lab``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click

from anysock.cli.completing import Choices, completing
from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.values import OUTPUT_FILE, OWN_FILE, write_file
from anysock.extras import needs
from anysock.machine.process import sigterm_interrupts


def _claims() -> Choices:
    try:
        from anysock.lab.catalogue import CLAIMS
    except ModuleNotFoundError:  # and the command says which, when it is called
        return {}
    return {name: claim.says for name, claim in CLAIMS.items()}


@click.command("lab", cls=Command, short_help="Measure what is said about I/O models.")
@click.argument("claims", nargs=-1, metavar="[CLAIM]...", shell_complete=completing(_claims))
@click.option("--list", "only_list", is_flag=True, help="Show the claims, and measure nothing.")
@click.option(
    "--json",
    "json_file",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="The report as JSON; -: to stdout.",
)
@click.option("--html", "html_file", type=OWN_FILE, metavar="FILE", help="The report as a page.")
def command(
    claims: tuple[str, ...], only_list: bool, json_file: Path | None, html_file: Path | None
) -> None:
    """Measure what is said about I/O models, on this machine.

    Each claim is an experiment with real processes and sockets, a figure, and a verdict. With
    CLAIM, that one is measured and explained: what is claimed, how it is measured, what came out.

    Exit code 1 when a claim was refuted. --json - writes to standard output.
    """
    with needs("load"):
        from anysock.lab import text
        from anysock.lab.catalogue import chosen
    if html_file is not None:
        with needs("report"):
            from anysock.lab.pages import lab_page
    from rich.console import Console

    wanted = chosen(claims)
    to_stdout = str(json_file) == "-"
    console = wide_console(stderr=to_stdout)
    if only_list:
        console.print(text.claims_table(wanted))
        return
    sigterm_interrupts()
    results = []
    interrupted = False
    with Console(stderr=True).status("starting", refresh_per_second=2) as status:
        try:
            for number, claim in enumerate(wanted, 1):
                status.update(f"{number} of {len(wanted)}: {claim.name}")
                results.append(claim.run())
        except KeyboardInterrupt:
            interrupted = True
    if claims:
        for result in results:
            console.print(text.explanation(result))
    else:
        console.print(text.results_table(results))
    console.print(text.summary_line(results))
    told = json.dumps([result.to_dict() for result in results], indent=1)
    if to_stdout:
        click.echo(told)
    elif json_file is not None:
        write_file(json_file, told + "\n")
    if html_file is not None:
        write_file(html_file, lab_page(results))
    if interrupted:
        sys.exit(128 + signal.SIGINT)
    sys.exit(1 if any(result.verdict.value == "refuted" for result in results) else 0)
