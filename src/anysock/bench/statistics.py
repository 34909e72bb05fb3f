"""The median, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: How sure an interval is to hold the true median.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A median with its confidence interval; `low` and `high` are None when it is not known."""

    median: float
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The interval lies between two of the values themselves, whatever their distribution.

        Each value is above the true median with a probability of one half; so the number of those
        that are follows a binomial distribution, which says how far in from both ends one may go
        (Conover, Practical Nonparametric Statistics, 3.2). Fewer than 6 values are not enough.

        Raises ValueError when there are no values.
        """
        ordered = sorted(values)
        count = len(ordered)
        median = statistics.median(ordered)
        inside = 0  # how many values may be left out at each end
        tail = 0.0
        while (tail := tail + math.comb(count, inside) * 0.5**count) <= (1 - CONFIDENCE) / 2:
            inside += 1
        if not inside:
            return cls(median, None, None, count)
        return cls(median, ordered[inside - 1], ordered[count - inside], count)

    @property
    def within(self) -> float | None:
        """How far the interval reaches from the median, as a share of it: 0.05 is ±5 %."""
        if self.low is None or self.high is None or not self.median:
            return None
        return max(self.high - self.median, self.median - self.low) / self.median
