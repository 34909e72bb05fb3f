"""Addresses: how they are written, and what the resolver makes of them."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from typing import NamedTuple

from anysock.engines.base import SockAddr
from anysock.errors import StartError, UsageError

SCHEMES = ("tcp",)

_FORMS = "host:port, [v6]:port or tcp://host:port"
# Neither blanks nor control characters: getaddrinfo(3) sees a host only up to its first NUL, and
# would take 127.0.0.1\0.example for 127.0.0.1.
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[^\[\]\s\0-\x1f\x7f]*)\]|(?P<host>[^\[\]:\s\0-\x1f\x7f]*)):(?P<port>\d{1,9})",
    re.ASCII,
)


@dataclass(frozen=True)
class Address:
    """A host, by name or by number, and a TCP port. ``str(address)`` is what `parse` reads."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, default_host: str = "") -> Address:
        """Read ``host:port``, ``[v6]:port``, ``:port``, or one of these after ``tcp://``.

        ``:port`` means `default_host`; what no host at all means, `resolve` says. Raises
        `UsageError`, with what is wrong and what to write instead.
        """
        scheme, separator, rest = text.rpartition("://")
        if separator and scheme not in SCHEMES:
            raise UsageError(
                f"bad address {text!r}: unknown scheme {scheme!r}, use {', '.join(SCHEMES)}://"
            )
        match = _HOST_AND_PORT.fullmatch(rest)
        if match is None:
            hint = f"write {_FORMS}"
            if rest.count(":") > 1 and "[" not in rest:
                hint = "put an IPv6 address in brackets, as in [::1]:8000"
            raise UsageError(f"bad address {text!r}: {hint}")
        port = int(match["port"])
        if port > 65535:
            raise UsageError(f"bad address {text!r}: a port is a number from 0 to 65535")
        v6 = match["v6"]
        if v6 is not None and not _is_ipv6(v6):
            raise UsageError(
                f"bad address {text!r}: brackets are for IPv6 addresses, as in [::1]:8000"
            )
        return cls(match["host"] or default_host if v6 is None else v6, port)

    @property
    def is_name(self) -> bool:
        """Whether the host is a name, so that resolving it may take the resolver some time."""
        flags = socket.AI_NUMERICHOST
        try:
            socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=flags)
        except (OSError, UnicodeError):
            return True
        return False

    def __str__(self) -> str:
        return f"tcp://{_bracketed(self.host)}:{self.port}"


class ResolvedAddress(NamedTuple):
    """What bind(2) and connect(2) take."""

    family: socket.AddressFamily
    sockaddr: SockAddr


def resolve(address: Address, *, passive: bool) -> list[ResolvedAddress]:
    """All addresses that `address` stands for, in the resolver's order, each once.

    `passive` says that they are to listen on: then no host means every address of the machine,
    and otherwise the machine itself. Blocks while the resolver does. Raises `StartError` when the
    name is not known.
    """
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=flags
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: what IDNA says of an impossible name
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"can't resolve the host {address.host!r}: {reason}") from None
    return list(dict.fromkeys(ResolvedAddress(family, to) for family, _, _, _, to in found))


def format_sockaddr(sockaddr: SockAddr) -> str:
    """``tcp://127.0.0.1:8000`` for what the socket module calls ``('127.0.0.1', 8000)``."""
    return str(Address(sockaddr[0], sockaddr[1]))


def explain_bind_error(error: OSError) -> StartError:
    """The error of bind(2) or listen(2) on `error.filename`, with what to do about it."""
    what_to_do = {
        errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
        errno.EACCES: "a port below 1024 needs the right to it (CAP_NET_BIND_SERVICE); "
        "choose a higher one",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    }.get(error.errno or 0)
    reason = os.strerror(error.errno) if error.errno else str(error)
    where = format_sockaddr(error.filename) if error.filename else "the address"
    return StartError(f"can't listen on {where}: {reason}{f': {what_to_do}' if what_to_do else ''}")


def _is_ipv6(host: str) -> bool:
    """Whether `host` is an IPv6 address, with or without a scope (RFC 4007, section 11)."""
    literal, percent, scope = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, literal)
    except (OSError, UnicodeError):
        return False
    return bool(scope) or not percent


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
