"""Latencies: how long each message took, kept so that it costs the load generator next to nothing.

A duration is stored as a 32-bit float, and counted by the upper half of that: sign, exponent and
7 bits of the fraction. So the buckets are log-linear, as those of an HDR histogram are, 0.8 % wide
whatever the magnitude, and a value told from the middle of its bucket is wrong by 0.4 % at most.
Nothing is interpolated. Counting that way is done in C, many samples at a time (65 ns each, where
`HdrHistogram.record_value` takes 1.3 µs); the percentiles then come from the HDR histogram.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

from anysock.clients.percentiles import BEYOND, bears

# Which 16 bits of a 32-bit float hold its exponent.
_UPPER_HALF = 1 if sys.byteorder == "little" else 0

# The histogram counts nanoseconds, up to an hour, to three significant digits.
_NANOSECONDS = 1e9
_LONGEST = 3600 * 10**9
_DIGITS = 3

#: What reports show, in percent.
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Samples:
    """Takes durations in seconds, one by one; ``add`` is all that the hot path calls."""

    def __init__(self) -> None:
        self._fresh = array("f")
        #: ``add(seconds)``.
        self.add = self._fresh.append
        self._counts: Counter[int] = Counter()

    def fold(self) -> int:
        """Count what was added since the last call; return how many that were."""
        number = len(self._fresh)
        if number:
            with (
                memoryview(self._fresh) as floats,
                floats.cast("B") as octets,
                octets.cast("H") as halves,
                halves[_UPPER_HALF::2] as upper,
            ):
                self._counts.update(upper)
            del self._fresh[:]
        return number

    def take(self) -> dict[int, int]:
        """The counts by bucket of all that was added, which is then forgotten."""
        self.fold()
        counts, self._counts = self._counts, Counter()
        return counts


def bucket_middle(bucket: int) -> float:
    """The seconds that `bucket`, as `Samples` counts them, stands for."""
    (seconds,) = struct.unpack("=f", struct.pack("=I", bucket << 16 | 0x8000))
    return float(seconds)


def bucket_edge(bucket: int) -> float:
    """The lowest seconds that `bucket` counts."""
    (seconds,) = struct.unpack("=f", struct.pack("=I", bucket << 16))
    return float(seconds)


class Latencies:
    """A histogram of durations that can be merged, asked for percentiles, and sent elsewhere."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST, _DIGITS)

    @classmethod
    def of(cls, buckets: Mapping[Any, int] | Iterable[tuple[int, int]]) -> Latencies:
        """A histogram of what `Samples.take` gave, here or in another process."""
        latencies = cls()
        latencies.add_buckets(buckets)
        return latencies

    @classmethod
    def decode(cls, text: str) -> Latencies:
        """The histogram that `encode` made `text` of."""
        latencies = cls()
        latencies._histogram.decode_and_add(text)
        return latencies

    def add_buckets(self, buckets: Mapping[Any, int] | Iterable[tuple[int, int]]) -> None:
        """Count what `Samples.take` gave as well. Keys may be texts, as JSON makes them."""
        pairs = buckets.items() if isinstance(buckets, Mapping) else buckets
        for bucket, count in pairs:
            self.add(bucket_middle(int(bucket)), count)

    def add(self, seconds: float, count: int) -> None:
        """Count `count` messages that took so long."""
        nanoseconds = round(seconds * _NANOSECONDS)
        self._histogram.record_value(min(max(nanoseconds, 1), _LONGEST), count)

    def merge(self, other: Latencies) -> None:
        """Count what `other` has counted as well."""
        self._histogram.add(other._histogram)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float:
        """The seconds within which `percent` of 100 were done; 0.0 when nothing was counted."""
        if not len(self):
            return 0.0
        # The nearest rank: the library would round it, and p99 of 40 would not be the highest.
        rank = max(math.ceil(percent / 100 * len(self)), 1)
        nanoseconds = self._histogram.get_value_at_percentile(100 * rank / len(self))
        return float(nanoseconds) / _NANOSECONDS

    def told(self, percent: float) -> float | None:
        """The percentile, for a report; None where there are too few samples for it."""
        return self.percentile(percent) if bears(len(self), percent) else None

    def lacking(self) -> list[float]:
        """Which of `PERCENTILES` there are samples for, but too few."""
        return [percent for percent in PERCENTILES if len(self) and self.told(percent) is None]

    def encode(self) -> str:
        """The histogram as text (HDR's V2 format, compressed), for `decode` and for other tools."""
        return str(self._histogram.encode().decode("ascii"))

    def curve(self) -> list[tuple[float, float]]:
        """(percent, seconds) from the lowest up: what a percentile plot shows. It ends with the
        last percentile that `BEYOND` samples lie beyond."""
        if len(self) < BEYOND:
            return []
        nines = [100 - 100 * 10 ** (-step / 8) for step in range(41)]
        last = 100 - 100 * BEYOND / len(self)
        percents = [*(percent for percent in nines if percent < last), last]
        return [(percent, self.percentile(percent)) for percent in percents]

    def summary(self) -> dict[str, float | None]:
        """The figures of a report: count, and seconds at the lowest, p50 to p99.9, the highest. A
        percentile that there are too few samples for is None."""
        if not len(self):
            return {"count": 0}
        return {
            "count": len(self),
            "min": self.percentile(0.0),
            **{f"p{percent:g}": self.told(percent) for percent in PERCENTILES},
            "max": self.percentile(100.0),
        }
