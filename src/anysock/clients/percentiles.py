"""Which percentiles a number of samples can support.

The 99th percentile of 20 samples is their maximum under another name: of the next 20 it may be ten
times as high. It says something once some samples lie beyond it.
"""

from __future__ import annotations

import math

#: How many samples must lie beyond a percentile that is reported.
BEYOND = 10


def samples_needed(percent: float) -> int:
    """How many samples the percentile takes: 20 for the 50th, 1,000 for the 99th. At 0 and 100,
    the lowest and the highest, one is enough: they claim nothing of others."""
    if not 0 < percent < 100:
        return 1
    # Rounded: 100 - 99.9 is a little more, or less, than 0.1.
    return math.ceil(round(100 * BEYOND / (100 - percent), 6))


def bears(count: int, percent: float) -> bool:
    """Whether `count` samples support the percentile."""
    return count >= samples_needed(percent)
