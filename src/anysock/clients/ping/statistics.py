"""What a run of probes counts."""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass, field
from typing import Any

from anysock.clients.percentiles import bears

#: Percentiles are of the latest round trips, at most this many: the memory of an endless run is
#: bounded.
MAX_SAMPLES = 100_000

#: Which percentiles are reported, in percent, once there are enough round trips for them.
PERCENTILES = (50, 99)


@dataclass
class Times:
    """Round trips in seconds: exact minimum, mean, maximum and deviation of all of them, and
    percentiles of the latest `MAX_SAMPLES`."""

    count: int = 0
    lowest: float = math.inf
    highest: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0
    _latest: collections.deque[float] = field(
        default_factory=lambda: collections.deque(maxlen=MAX_SAMPLES)
    )

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.lowest = min(self.lowest, seconds)
        self.highest = max(self.highest, seconds)
        self._sum += seconds
        self._squares += seconds * seconds
        self._latest.append(seconds)

    def percentile(self, percent: float) -> float:
        """The shortest time that `percent` of 100 round trips do not exceed (nearest rank)."""
        ordered = sorted(self._latest)
        return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]

    def summary(self) -> dict[str, float | None]:
        """min, avg, max, mdev (the standard deviation), p50 and p99 (None where there are too few
        samples for it); empty when there are none."""
        if not self.count:
            return {}
        mean = self._sum / self.count
        return {
            "min": self.lowest,
            "avg": mean,
            "max": self.highest,
            "mdev": math.sqrt(max(self._squares / self.count - mean * mean, 0.0)),
            **{
                f"p{percent}": self.percentile(percent) if bears(self.count, percent) else None
                for percent in PERCENTILES
            },
        }


@dataclass
class Summary:
    """How a run of probes went."""

    sent: int = 0
    received: int = 0
    #: Neither answered nor lost when it was interrupted.
    waiting: int = 0
    #: By kind: corrupt, late, … (see `Verdict`).
    bad: collections.Counter[str] = field(default_factory=collections.Counter)
    #: Connections that could not be opened, or broke, by reason.
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    rtt: Times = field(default_factory=Times)
    connect: Times = field(default_factory=Times)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Probes without a right answer in time."""
        return self.sent - self.received - self.waiting

    @property
    def ok(self) -> bool:
        """Whether there were answers, and every probe was answered once, rightly and in time."""
        return self.received > 0 and not self.lost and not self.bad

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds."""
        return {
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "waiting": self.waiting,
            "bad": dict(self.bad),
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "rtt": self.rtt.summary(),
            "connect": self.connect.summary(),
        }
