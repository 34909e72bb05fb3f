"""Which network a peer is in."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from anysock.engines.base import SockAddr

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# One host of IPv6 has as many addresses as it likes, of one network of this many bits (RFC 4291,
# section 2.5.4).
_IPV6_SOURCE_BITS = 64


def host_of(peer: SockAddr) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of `peer`, without a scope; one of IPv4 in IPv6's clothes (RFC 4291, section
    2.5.5.2: a socket that listens for both) is one of IPv4. None: a Unix socket has none."""
    if isinstance(peer, str):
        return None
    return _host_of(str(peer[0]))


# Peers come again, and to read the text of an address, and write it, takes 2 µs.
@functools.lru_cache(1024)
def _host_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    host = ipaddress.ip_address(text.partition("%")[0])
    return getattr(host, "ipv4_mapped", None) or host


def source_of(peer: SockAddr) -> str:
    """What counts as one source: one IPv4 address, or one IPv6 network of 64 bits. All peers on
    Unix sockets are one source, since they can choose their names freely."""
    return "unix" if isinstance(peer, str) else _source_of(str(peer[0]))


@functools.lru_cache(1024)
def _source_of(text: str) -> str:
    host = _host_of(text)
    if host.version == 4:
        return str(host)
    return str(ipaddress.ip_network((host, _IPV6_SOURCE_BITS), strict=False))


def is_denied(peer: SockAddr, allow: Sequence[Network], deny: Sequence[Network]) -> bool:
    """Whether `peer` may not connect. `deny` takes precedence over `allow`; if there is an `allow`,
    a peer outside of all its networks is denied. On a Unix socket, the permissions of its file
    decide instead."""
    if isinstance(peer, str):
        return False
    return contains(deny, peer) or (bool(allow) and not contains(allow, peer))


def contains(networks: Sequence[Network], peer: SockAddr) -> bool:
    """Whether one of `networks` has the host of `peer` in it. A Unix socket is in none."""
    host = host_of(peer)
    return host is not None and any(host in network for network in networks)
