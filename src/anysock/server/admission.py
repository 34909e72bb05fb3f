"""Which connections may come in, and how many: decided from figures alone, without a socket."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from anysock.engines.base import Machine, SockAddr
from anysock.net.networks import Network, is_denied, source_of
from anysock.telemetry.events import CloseReason

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

# Descriptors that are not for connections: the handler, the log, the admin endpoint and the
# interpreter itself may open some while the server is full.
SPARE_DESCRIPTORS = 24

# The maximum number of connections where descriptors are unlimited.
_MAX_ANYWHERE = 1_000_000

# Burst size of the bucket, in seconds of the rate.
_BURST_SECONDS = 0.1


def connections_that_fit(machine: Machine) -> int:
    """How many connections `machine` has descriptors for, with some to spare."""
    free = machine.free_descriptors()
    if free is None:
        return _MAX_ANYWHERE
    return min(max(free - SPARE_DESCRIPTORS, 1), _MAX_ANYWHERE)


class Slots(Protocol):
    """Counts connections against one limit. The workers of a server share one."""

    #: The limit.
    most: int

    def take(self) -> bool:
        """Take a slot, and return whether there was one."""
        ...

    def give_back(self) -> None:
        """A connection has ended."""
        ...

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        ...


class OwnSlots:
    """The slots of one process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            if self.taken >= self.most:
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
    """Lets `rate` a second through on average, and at most `burst` at once: in any `t` seconds at
    most ``rate * t + burst``. (For one task, or under a lock.)"""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self.rate = rate
        self.burst = max(rate * _BURST_SECONDS, 1.0) if burst is None else burst
        self._level = self.burst
        self._at: float | None = None

    def set_rate(self, rate: float) -> None:
        """From now on this is the rate, with the burst that goes with it."""
        self.rate = rate
        self.burst = max(rate * _BURST_SECONDS, 1.0)
        self._level = min(self._level, self.burst)

    def take(self, now: float, amount: float = 1.0) -> float:
        """Let `amount` through; return how many seconds it has to wait from `now` on."""
        self._fill(now)
        self._level -= amount
        return -self._level / self.rate if self._level < 0 else 0.0

    def may(self, now: float, amount: float = 1.0) -> bool:
        """Whether `amount` may pass at time `now`; if so, it has."""
        self._fill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def _fill(self, now: float) -> None:
        # One thread may have read the clock before another, and come here after it.
        if self._at is None or now > self._at:
            if self._at is not None:
                level = self._level + (now - self._at) * self.rate
                self._level = min(self.burst, level)
            self._at = now


class Admission:
    """Judges which peers may come in, and counts the connections of each source."""

    def __init__(self, options: ServeOptions, most: int) -> None:
        self._allow: Sequence[Network] = options.allow
        self._deny: Sequence[Network] = options.deny
        self._per_source = options.per_source or most
        # Unless the limit for a source is below the limit for all, there is nothing to count.
        self._counting = self._per_source < most
        self._sources: Counter[str] = Counter()
        self._lock = threading.Lock()
        #: Whether there is anything to judge.
        self.judges = bool(self._allow or self._deny or self._counting)
        self._rate = None if options.accept_rate is None else TokenBucket(options.accept_rate)

    @property
    def has_rate(self) -> bool:
        """Whether there is a rate to keep to."""
        return self._rate is not None

    def delay(self, now: float) -> float:
        """How many seconds a peer that comes now has to wait, so that no more come in than the
        option `accept_rate` says."""
        if self._rate is None:
            return 0.0
        with self._lock:
            return self._rate.take(now)

    def in_time(self, now: float) -> bool:
        """Whether a peer that comes now, and can't wait, may come in under the rate. If it may not,
        it takes nothing of the rate from the next."""
        if self._rate is None:
            return True
        with self._lock:
            return self._rate.may(now)

    def judge(self, peer: SockAddr) -> CloseReason | None:
        """Why `peer` may not come in; None: it may, and is counted until `leave`."""
        if (self._allow or self._deny) and is_denied(peer, self._allow, self._deny):
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
                    # A source without connections must not cost memory.
                    del self._sources[source]
