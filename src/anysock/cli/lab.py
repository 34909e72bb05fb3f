"""``anysock lab``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from anysock.cli.completing import Choices, completing
from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.reporting import is_stdout, with_reports, write_json
from anysock.cli.values import write_file
from anysock.errors import UsageError
from anysock.extras import needs
from anysock.machine.process import sigterm_interrupts


def _claims() -> Choices:
    try:
        from anysock.lab.catalogue import CLAIMS
    except ModuleNotFoundError:  # and the command says which, when it is called
        return {}
    return {name: claim.says for name, claim in CLAIMS.items()}


@click.command("lab", cls=Command, short_help="Test claims about I/O models.")
@click.argument("claims", nargs=-1, metavar="[CLAIM]...", shell_complete=completing(_claims))
@click.option("--list", "only_list", is_flag=True, help="List the claims, and measure nothing.")
@with_reports
@click.option(
    "--docs",
    metavar="URL|FOLDER",
    help="Where the documentation is: the page of --html links to it.",
)
def command(
    claims: tuple[str, ...],
    only_list: bool,
    json_file: Path | None,
    html_file: Path | None,
    docs: str | None,
) -> None:
    """Test claims about I/O models, on this machine.

    Each claim has an experiment with real processes and sockets, a figure, and a verdict. With
    CLAIM, only that claim is tested and explained: what it says, how it is measured, the results.

    Exit code 1 when a claim was refuted.
    """
    with needs("load"):
        from anysock.lab import text
        from anysock.lab.catalogue import chosen
        from anysock.lab.claims import Result, Verdict
    from rich.console import Console

    wanted = chosen(claims)
    if docs is not None and html_file is None:
        raise UsageError("--docs is for the page of --html")
    if html_file is not None:
        from anysock.lab.pages import Docs, lab_page

        place = Docs.of_distribution() if docs is None else Docs.at(docs, html_file)
    console = wide_console(stderr=is_stdout(json_file))
    if only_list:
        console.print(text.claims_table(wanted))
        return
    sigterm_interrupts()
    results: list[Result] = []
    interrupted = False
    with Console(stderr=True).status("starting", refresh_per_second=2) as status:
        try:
            for number, claim in enumerate(wanted, 1):
                status.update(f"{number} of {len(wanted)}: {claim.name}")
                results.append(claim.run())
        except KeyboardInterrupt:
            interrupted = True
    console.print(text.report(results, explained=bool(claims)))
    write_json(json_file, [result.to_dict() for result in results])
    if html_file is not None:
        write_file(html_file, lab_page(results, place))
    if interrupted:
        sys.exit(128 + signal.SIGINT)
    sys.exit(1 if any(result.verdict is Verdict.REFUTED for result in results) else 0)
