"""Who may come in, and how many: decided from figures alone, without a socket in sight."""

from __future__ import annotations

import ipaddress
import os
import resource
import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from anysock.engines.base import SockAddr
from anysock.events import CloseReason

if TYPE_CHECKING:
    from anysock.options import ServeOptions

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Descriptors that are not for connections: what a handler, the log, the admin endpoint and the
# interpreter itself may open while the server is full.
SPARE_DESCRIPTORS = 24

# Where descriptors are unlimited, connections are not.
_MOST_ANYWHERE = 1_000_000

# One host of IPv6 has as many addresses as it likes, of one network of this many bits (RFC 4291,
# section 2.5.4).
_IPV6_SOURCE_BITS = 64

# A rate may be exceeded for so long, in seconds, by who has been below it before.
_BURST_SECONDS = 0.1


def connections_that_fit() -> int:
    """How many connections this process has descriptors for (getrlimit(2), RLIMIT_NOFILE), with
    some to spare."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_ANYWHERE
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 0
    return min(max(soft - used - SPARE_DESCRIPTORS, 1), _MOST_ANYWHERE)


class Slots(Protocol):
    """How many connections there may be. The workers of a server have one number for all."""

    most: int

    def take(self, *, beyond: bool = False) -> bool:
        """Take a slot, and return whether there was one; with `beyond`, even if not."""
        ...

    def give_back(self) -> None:
        """A connection has ended."""
        ...

    @property
    def full(self) -> bool: ...


class OwnSlots:
    """The slots of one process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, *, beyond: bool = False) -> bool:
        with self._lock:
            if self.taken >= self.most and not beyond:
                return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1

    @property
    def full(self) -> bool:
        return self.taken >= self.most


class TokenBucket:
    """Lets through `rate` a second on average, and no more than `burst` at once."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self.rate = rate
        self.burst = max(rate * _BURST_SECONDS, 1.0) if burst is None else burst
        self._level = self.burst
        self._at: float | None = None

    def take(self, now: float, amount: float = 1.0) -> float:
        """Let `amount` through at time `now`; return how many seconds to wait before the next."""
        self._fill(now)
        self._level -= amount
        return max(-self._level / self.rate, 0.0)

    def may(self, now: float, amount: float = 1.0) -> bool:
        """Whether `amount` may pass at time `now`; if so, it has."""
        self._fill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._level + (now - self._at) * self.rate, self.burst)
        self._at = now


def source_of(peer: SockAddr) -> str:
    """What counts as one source: the host; of IPv6, its network of 64 bits; or the Unix socket."""
    if isinstance(peer, str):
        return peer
    host = str(peer[0])
    if ":" not in host:
        return host
    network = ipaddress.ip_network((host.partition("%")[0], _IPV6_SOURCE_BITS), strict=False)
    return str(network)


def contains(networks: Sequence[Network], peer: SockAddr) -> bool:
    """Whether one of `networks` has the host of `peer` in it. A Unix socket is in none."""
    if isinstance(peer, str):
        return False
    host = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    return any(host in network for network in networks)


class Admission:
    """Judges who comes in, and keeps count of the sources."""

    def __init__(self, options: ServeOptions, most: int) -> None:
        self._allow: Sequence[Network] = options.allow
        self._deny: Sequence[Network] = options.deny
        self._per_source = options.per_source or most
        # Without a limit below that for all, there is nothing to count.
        self._counting = self._per_source < most
        self._sources: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.rate = None if options.accept_rate is None else TokenBucket(options.accept_rate)

    def judge(self, peer: SockAddr) -> CloseReason | None:
        """Why `peer` may not come in; None: it may, and is counted until `leave`.

        Networks of `deny` come before those of `allow`; with an `allow`, who is in none of them is
        denied. On a Unix socket, the permissions of its file decide.
        """
        if not isinstance(peer, str) and (
            (self._deny and contains(self._deny, peer))
            or (self._allow and not contains(self._allow, peer))
        ):
            return CloseReason.DENIED
        if self._counting:
            source = source_of(peer)
            with self._lock:
                if self._sources[source] >= self._per_source:
                    return CloseReason.PER_SOURCE
                self._sources[source] += 1
        return None

    def leave(self, peer: SockAddr) -> None:
        """A peer that was let in has left."""
        if self._counting:
            source = source_of(peer)
            with self._lock:
                self._sources[source] -= 1
                if not self._sources[source]:
                    # Whoever has ever been here must not cost memory for ever.
                    del self._sources[source]
