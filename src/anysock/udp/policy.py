"""Whom to answer over UDP: so that an echo server can't be made to do harm.

A datagram's source can be forged. Two echo servers that are told by one forged datagram that they
have heard from each other never stop (CERT CA-1996-01; again in 2024, as CVE-2024-2169); one
request to a broadcast address is answered by a whole network (“fraggle”). Decided from addresses
and a clock that the caller reads, without a socket in sight.
"""

from __future__ import annotations

import collections
import enum
import ipaddress
from collections.abc import Callable, Collection
from functools import lru_cache

from anysock.admission import TokenBucket, source_of
from anysock.engines.base import SockAddr

# Ports below this are those of services, of echo itself among them, and of nobody who asks.
FIRST_FREE_PORT = 1024

# The rates of so many sources are kept. Who has not been heard of for longest is forgotten: no more
# than that can be had by forging sources, and the rate for all bounds it.
MOST_SOURCES = 10_000


class Refusal(enum.Enum):
    """Why a datagram is not answered."""

    #: From a port below 1024: another echo server, chargen, DNS.
    RESERVED_PORT = "from a reserved port"
    #: From an address that is no host's: broadcast, multicast, none at all.
    NO_HOST = "from no host"
    #: Sent to many at once.
    TO_MANY = "to a broadcast or multicast address"
    #: From one of our own sockets.
    OURSELVES = "from ourselves"
    #: Its source has had as many answers as `udp_rate` says.
    SOURCE_RATE = "too many from its source"
    #: All together have had as many as `udp_total_rate` says.
    TOTAL_RATE = "too many"
    #: The system had no room for the answer, or did not let it out.
    NOT_SENT = "not sent"


class UdpPolicy:
    """Judges datagrams. `ports` are those that we serve; `is_ours` says whether a host is us."""

    def __init__(
        self,
        ports: Collection[int],
        rate: float,
        total_rate: float,
        is_ours: Callable[[str], bool],
    ) -> None:
        self._ports = frozenset(ports)
        self._rate = rate
        self._total = TokenBucket(total_rate)
        self._sources: collections.OrderedDict[str, TokenBucket] = collections.OrderedDict()
        self._is_ours = is_ours

    def __len__(self) -> int:
        """How many sources are known."""
        return len(self._sources)

    def judge(self, source: SockAddr, destination: str | None, now: float) -> Refusal | None:
        """Why a datagram from `source`, sent to the host `destination`, is not answered; None: it
        is, and counts. `now` is in seconds, on a clock that does not go back."""
        host, port = str(source[0]), int(source[1])
        refusal: Refusal | None = None
        if port < FIRST_FREE_PORT:
            refusal = Refusal.RESERVED_PORT
        elif not _is_host(host):
            refusal = Refusal.NO_HOST
        elif destination is not None and not _is_host(destination):
            refusal = Refusal.TO_MANY
        elif port in self._ports and self._is_ours(host.partition("%")[0]):
            refusal = Refusal.OURSELVES
        if refusal is not None:
            return refusal
        if not self._bucket_of(source).may(now):
            return Refusal.SOURCE_RATE
        if not self._total.may(now):
            return Refusal.TOTAL_RATE
        return None

    def _bucket_of(self, source: SockAddr) -> TokenBucket:
        name = source_of(source)
        bucket = self._sources.get(name)
        if bucket is None:
            bucket = self._sources[name] = TokenBucket(self._rate)
            if len(self._sources) > MOST_SOURCES:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(name)
        return bucket


@lru_cache(maxsize=1024)
def _is_host(host: str) -> bool:
    """Whether an address can be a single host's. (The broadcast address of a network of ours looks
    like one; the system lets nothing out to it, without SO_BROADCAST.)"""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not (
        address.is_multicast
        or address.is_unspecified
        or address == ipaddress.IPv4Address("255.255.255.255")
        or (address.version == 4 and int(address) >> 24 == 0)
    )
