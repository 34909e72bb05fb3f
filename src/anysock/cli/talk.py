"""``anysock talk``."""

from __future__ import annotations

from typing import Any

import click

from anysock.cli.helping import Command
from anysock.cli.speaking_for import with_proxy_header
from anysock.cli.trust import trusted, with_trust
from anysock.cli.where import with_address
from anysock.clients.speaking_for import proxy_header
from anysock.clients.talk import talk
from anysock.net.addresses import Address


@click.command("talk", cls=Command, short_help="Talk to a server, as telnet does.")
@with_address
@with_trust
@with_proxy_header
@click.option("--lf", is_flag=True, help="Send lines that end with LF, not with CRLF.")
def command(address: Address, lf: bool, send_proxy: int | None, **trust: Any) -> None:
    """Talk to the server at ADDRESS (host:port), or at ADDRESS PORT, as telnet does.

    Each line typed is sent with CRLF. At the end of standard input our end is half-closed, and the
    rest of the answer is printed. So it works in a pipe: printf 'hello\\n' | anysock talk :8000

    At a terminal, lines are edited, and have a history, which is kept in
    ~/.local/state/anysock/talk_history (or in XDG_STATE_HOME). One that begins with a blank is not.
    """
    ending = b"\n" if lf else b"\r\n"
    talk(address, ending, trusted(address, **trust), preface=proxy_header(send_proxy))
