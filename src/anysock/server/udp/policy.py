"""Which datagrams to answer, so that an echo server can't be made to do harm.

A datagram's source can be forged. One forged datagram makes two echo servers answer each other for
ever (CERT CA-1996-01; again in 2024, as CVE-2024-2169); one request to a broadcast address is
answered by a whole network ("fraggle"). Decided from addresses and a clock that the caller reads,
without a socket.
"""

from __future__ import annotations

import collections
import enum
import ipaddress
import threading
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from anysock.engines.base import SockAddr
from anysock.net.networks import Network, is_denied, source_of
from anysock.server.admission import TokenBucket

# Ports below this belong to services, such as echo itself, and not to clients.
FIRST_FREE_PORT = 1024

# The rates of at most so many sources are kept; the source that was silent for longest is forgotten
# first. Forging sources gains no more than that, and the rate for all bounds it.
MAX_SOURCES = 10_000


class Refusal(enum.Enum):
    """Why a datagram is not answered."""

    #: From a port below 1024: another echo server, chargen, DNS.
    RESERVED_PORT = "from a reserved port"
    #: From an address that is not a host's: broadcast, multicast, unspecified.
    NO_HOST = "from no host"
    #: Sent to many hosts at once.
    TO_MANY = "to a broadcast or multicast address"
    #: From one of our own sockets.
    OURSELVES = "from ourselves"
    #: The option `allow` or `deny` says so.
    DENIED = "denied"
    #: Its source has had as many answers as `udp_rate` allows.
    SOURCE_RATE = "too many from its source"
    #: All sources together have had as many answers as `udp_total_rate` allows.
    TOTAL_RATE = "too many"
    #: The system had no room for the answer, or did not let it leave.
    NOT_SENT = "not sent"


class UdpPolicy:
    """Judges datagrams. `ports` are the ports that we serve; ``is_ours(source)`` says whether the
    host of a source is this machine. May be used from any thread."""

    def __init__(
        self,
        ports: Collection[int],
        rate: float,
        total_rate: float,
        is_ours: Callable[[SockAddr], bool],
        *,
        allow: Sequence[Network] = (),
        deny: Sequence[Network] = (),
    ) -> None:
        self._ports = frozenset(ports)
        self._rate = rate
        self._total = TokenBucket(total_rate)
        self._sources: collections.OrderedDict[str, TokenBucket] = collections.OrderedDict()
        self._is_ours = is_ours
        self._allow = allow
        self._deny = deny
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many sources are known."""
        return len(self._sources)

    def set_rates(self, rate: float, total_rate: float) -> None:
        """From now on these are the rates."""
        with self._lock:
            self._rate = rate
            for bucket in self._sources.values():
                bucket.set_rate(rate)
            self._total.set_rate(total_rate)

    def judge(
        self, source: SockAddr, destination: str | None, now: float, *, to_many: bool = False
    ) -> Refusal | None:
        """Why a datagram from `source`, sent to the host `destination`, is not answered; None: it
        is answered, and counts. `to_many`: it is known to be a broadcast or a multicast. `now` is
        in seconds, on a clock that does not go back."""
        if to_many or (destination is not None and not _is_host(destination)):
            return Refusal.TO_MANY
        refusal = self._judge_source(source)
        if refusal is not None:
            return refusal
        with self._lock:
            if not self._bucket_of(source).may(now):
                return Refusal.SOURCE_RATE
            if not self._total.may(now):
                return Refusal.TOTAL_RATE
        return None

    def _judge_source(self, source: SockAddr) -> Refusal | None:
        host, port = str(source[0]), int(source[1])
        if port < FIRST_FREE_PORT:
            return Refusal.RESERVED_PORT
        if not _is_host(host):
            return Refusal.NO_HOST
        if port in self._ports and self._is_ours(source):
            return Refusal.OURSELVES
        if (self._allow or self._deny) and is_denied(source, self._allow, self._deny):
            return Refusal.DENIED
        return None

    def _bucket_of(self, source: SockAddr) -> TokenBucket:
        name = source_of(source)
        bucket = self._sources.get(name)
        if bucket is None:
            bucket = self._sources[name] = TokenBucket(self._rate)
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(name)
        return bucket


@lru_cache(maxsize=1024)
def _is_host(host: str) -> bool:
    """Whether an address can be that of a single host. (The broadcast address of a network looks
    like one; without SO_BROADCAST, the system sends nothing there.)"""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not (
        address.is_multicast
        or address.is_unspecified
        or address == ipaddress.IPv4Address("255.255.255.255")
        or (address.version == 4 and int(address) >> 24 == 0)
    )
