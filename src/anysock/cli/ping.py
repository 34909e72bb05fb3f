"""``anysock ping``."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from anysock.cli.helping import Command
from anysock.cli.trust import trusted, with_trust
from anysock.cli.values import COUNT, DURATION, SIZE
from anysock.cli.where import with_address
from anysock.clients import MAX_DATAGRAM
from anysock.clients.ping.pinger import ping
from anysock.clients.ping.plan import Plan
from anysock.errors import UsageError
from anysock.net.addresses import Address


@click.command("ping", cls=Command, short_help="Probe an echo server, and check its answers.")
@with_address
@click.option("-c", "--count", type=COUNT, metavar="N", help="End after N probes.")
@click.option(
    "-i",
    "--interval",
    type=DURATION,
    default="1s",
    show_default=True,
    help="Time between two probes; 0: send the next when the last is answered.",
)
@click.option("-s", "--size", type=SIZE, default="64", show_default=True, help="Size of a probe.")
@click.option(
    "--timeout", type=DURATION, default="5s", show_default=True, help="Time to wait for an answer."
)
@click.option(
    "-w",
    "--deadline",
    type=DURATION,
    help="End after this time, however many probes were sent and answered.",
)
@click.option(
    "-D",
    "--stamps",
    is_flag=True,
    help="Begin each line of a probe with the time of day, in seconds since 1970.",
)
@click.option("--connect", is_flag=True, help="Open a new connection for each probe.")
@with_trust
@click.option("-q", "--quiet", is_flag=True, help="Print only the summary.")
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as JSON.")
def command(
    address: Address,
    *,
    quiet: bool,
    as_json: bool,
    tls_ca: str | None,
    insecure: bool,
    tls_cert: str | None,
    tls_key: str | None,
    **asked: Any,
) -> None:
    """Send probes to the echo server at ADDRESS (host:port), or at ADDRESS PORT, and check what
    comes back.

    Each probe prints a line; the end, or Ctrl-C, prints statistics; Ctrl-\\ (SIGQUIT) prints how it
    stands, to standard error, and goes on. Corrupt, short, reordered,
    duplicate and late answers are named and counted.

    Exit code 0 when all probes were answered, 1 when some were lost or answered wrongly, or when
    --deadline came before --count of them were answered.
    """
    if not asked["timeout"]:
        raise UsageError("--timeout 0 leaves no time for an answer")
    if asked["deadline"] == 0:
        raise UsageError("--deadline 0 leaves no time for a probe")
    lines = _Lines(quiet=quiet or as_json, silent=as_json)
    if address.kind == "udp" and asked["size"] > MAX_DATAGRAM:
        raise UsageError(f"--size: a datagram has at most {MAX_DATAGRAM} bytes")
    tls = trusted(address, tls_ca, insecure, tls_cert, tls_key)
    summary = ping(Plan(address, tls=tls, **asked), lines.say, _to_standard_error)
    if as_json:
        click.echo(json.dumps({"address": str(address), **summary.to_dict()}, indent=2))
    fewer = asked["deadline"] and asked["count"] and summary.received < asked["count"]
    sys.exit(0 if summary.ok and not fewer else 1)


def _to_standard_error(line: str) -> None:
    click.echo(line, err=True)


class _Lines:
    """Prints lines; when quiet, only those of the summary, which begin with ``---``."""

    def __init__(self, *, quiet: bool, silent: bool) -> None:
        self._quiet = quiet
        self._silent = silent

    def say(self, line: str) -> None:
        self._quiet = self._quiet and not line.startswith("---")
        if not (self._quiet or self._silent):
            click.echo(line)
