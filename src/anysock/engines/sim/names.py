"""getaddrinfo(3), by the names of the hosts of the simulation."""

from __future__ import annotations

import functools
import socket
from typing import Any

from anysock.engines.sim.here import here

_PROTOCOLS = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}

_TEXTS = {
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_ADDRFAMILY: "Address family for hostname not supported",
}

Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


def look_up(
    host: str | None,
    port: int | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Found]:
    """What `socket.getaddrinfo` says. The name of a host stands for its address of IPv4."""
    hosts = here().network.hosts
    if host is None:
        found = ["0.0.0.0", "::"] if flags & socket.AI_PASSIVE else ["::1", "127.0.0.1"]
    elif host.lower() == "localhost":
        found = ["::1", "127.0.0.1"]
    elif host in hosts:
        found = [hosts[host].addresses[0]]
    else:
        found = [_numeric(host)]
    if family:
        found = [each for each in found if _family_of(each) == family]
        if not found:
            raise _error(socket.EAI_ADDRFAMILY)
    kinds = [kind for kind in _PROTOCOLS if type in (0, kind) and proto in (0, _PROTOCOLS[kind])]
    return [
        (_family_of(each), kind, _PROTOCOLS[kind], "", _sockaddr(each, port or 0))
        for each in found
        for kind in kinds
    ]


@functools.lru_cache(1024)
def _numeric(host: str) -> str:
    """The address that is written as `host`, in its usual form. Raises socket.gaierror for what is
    none; interfaces, as in ``fe80::1%eth0``, have no names here."""
    try:
        if ":" in host:
            return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
        if not any(each.isspace() for each in host):
            return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        # What no resolver can be asked for is another error.
        host.encode("idna")
    raise _error(socket.EAI_NONAME)


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _sockaddr(address: str, port: int) -> tuple[Any, ...]:
    return (address, port, 0, 0) if ":" in address else (address, port)


def _error(code: int) -> socket.gaierror:
    return socket.gaierror(code, _TEXTS[code])
