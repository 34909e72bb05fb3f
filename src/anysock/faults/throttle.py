"""``--throttle``: what is sent leaves no faster than so many bytes a second."""

from __future__ import annotations

from anysock.engines.base import Stream
from anysock.faults.pausing import PacedStream

# How much leaves at once, as a share of a second at that rate.
_SHARE_OF_A_SECOND = 0.1


class ThrottledStream(PacedStream):
    """Sends `rate` bytes a second: every tenth of a second what that makes, but at least a byte.

    What was not used of the rate is lost: after a pause nothing goes faster.
    """

    def __init__(self, inner: Stream, rate: float) -> None:
        super().__init__(inner, max(int(rate * _SHARE_OF_A_SECOND), 1))
        self._rate = rate

    def _pause_after(self, size: int) -> float:
        return size / self._rate
