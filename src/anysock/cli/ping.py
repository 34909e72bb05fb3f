"""``anysock ping``."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from typing import Any

import click

from anysock.cli.helping import Command
from anysock.cli.speaking_for import with_proxy_header
from anysock.cli.trust import trusted, with_trust
from anysock.cli.values import COUNT, DURATION, SIZE, Value
from anysock.cli.where import with_address
from anysock.clients import MAX_DATAGRAM
from anysock.clients.ping.pinger import ping
from anysock.clients.ping.plan import Plan
from anysock.engines.posix.machine import MACHINE
from anysock.errors import StartError, UsageError
from anysock.machine.interfaces import interface_addresses, interface_names
from anysock.net.addresses import Address, resolve


def _source(text: Any) -> str:
    """An address, or the name of an interface."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        names = interface_names()
        if text in names:
            return str(text)
        known = f", or one of its interfaces: {', '.join(names)}" if names else ""
        raise UsageError(
            f"expected an IP address of this machine, such as 192.0.2.7{known}; not {text!r}"
        ) from None


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
    "-f",
    "--flood",
    is_flag=True,
    help="Send the next probe when the last is answered, and 100 a second at least, but none while "
    "1000 wait for an answer. Each is a dot, which its answer takes away.",
)
@click.option(
    "-A",
    "--adaptive",
    is_flag=True,
    help="Send the next probe when the last is answered, or has taken twice as long as usual; at "
    "most 500 a second.",
)
@click.option("-4", "ipv4", is_flag=True, help="Use IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="Use IPv6 only.")
@click.option(
    "-I",
    "--source",
    type=Value("address", _source),
    metavar="ADDRESS",
    help="Connect from this address of this machine, or from that of its interface of this name, "
    "such as eth0. (The system chooses the route.)",
)
@click.option(
    "-D",
    "--stamps",
    is_flag=True,
    help="Begin each line of a probe with the time of day, in seconds since 1970.",
)
@click.option("--connect", is_flag=True, help="Open a new connection for each probe.")
@with_trust
@with_proxy_header
@click.option("-q", "--quiet", is_flag=True, help="Print only the summary.")
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as JSON.")
def command(
    address: Address,
    *,
    quiet: bool,
    as_json: bool,
    flood: bool,
    adaptive: bool,
    ipv4: bool,
    ipv6: bool,
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
    asked |= _pace(flood, adaptive) | _way(address, ipv4, ipv6, asked["source"])
    lines = _Lines(quiet=quiet or as_json, silent=as_json)
    if address.kind == "udp" and asked["size"] > MAX_DATAGRAM:
        raise UsageError(f"--size: a datagram has at most {MAX_DATAGRAM} bytes")
    tls = trusted(address, tls_ca, insecure, tls_cert, tls_key)
    plan = Plan(address, tls=tls, **asked)
    summary = ping(plan, lines.say, _to_standard_error, lines.mark)
    if as_json:
        click.echo(json.dumps({"address": str(address), **summary.to_dict()}, indent=2))
    fewer = asked["deadline"] and asked["count"] and summary.received < asked["count"]
    sys.exit(0 if summary.ok and not fewer else 1)


def _pace(flood: bool, adaptive: bool) -> dict[str, Any]:
    """When probes are sent."""
    if not (flood or adaptive):
        return {}
    if flood and adaptive:
        raise UsageError("--flood or --adaptive: probes have one pace")
    name = "flood" if flood else "adaptive"
    source = click.get_current_context().get_parameter_source("interval")
    if source != click.core.ParameterSource.DEFAULT:
        raise UsageError(f"--{name} sends by the answers: no --interval")
    return {"pace": name}


def _way(address: Address, ipv4: bool, ipv6: bool, source: str | None) -> dict[str, Any]:
    """Which way they go."""
    if (ipv4 or ipv6 or source) and address.kind == "unix":
        raise UsageError(f"-4, -6 and -I are for addresses of IP, and {address} is none")
    if ipv4 and ipv6:
        raise UsageError("-4 or -6: a probe has one family")
    if source and address.kind == "udp":
        raise UsageError("-I is for connections: a UDP socket sends from where the system chooses")
    family = socket.AF_INET if ipv4 else socket.AF_INET6 if ipv6 else None
    if source and source in interface_names():
        return {"family": family, "source": _of_interface(source, address, family)}
    if source and family is not None and (family == socket.AF_INET6) != (":" in source):
        raise UsageError(f"-{6 if ipv6 else 4}: -I {source} is an address of the other family")
    return {"family": family}


def _of_interface(name: str, address: Address, family: int | None) -> str:
    """The address of an interface from which to reach `address`."""
    ours = interface_addresses(name)
    for found in resolve(address, MACHINE, passive=False):
        if found.family in ours and family in (None, found.family):
            return ours[found.family]
    told = "no address" if not ours else f"only {' and '.join(ours.values())}"
    raise StartError(f"-I {name}: {address.short} can't be reached from there: it has {told}")


def _to_standard_error(line: str) -> None:
    click.echo(line, err=True)


class _Lines:
    """Prints lines; when quiet, only those of the summary, which begin with ``---``."""

    def __init__(self, *, quiet: bool, silent: bool) -> None:
        self._quiet = quiet
        self._silent = silent

    def mark(self, text: str) -> None:
        if not (self._quiet or self._silent):
            click.echo(text, nl=False)

    def say(self, line: str) -> None:
        self._quiet = self._quiet and not line.startswith("---")
        if not (self._quiet or self._silent):
            click.echo(line)
