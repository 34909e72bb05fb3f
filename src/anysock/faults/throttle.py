"""``--throttle``: what is sent leaves at a limited number of bytes a second."""

from __future__ import annotations

from anysock.engines.base import Stream
from anysock.faults.timed import PacedStream

# How much leaves at once: the bytes of a tenth of a second.
_SHARE_OF_A_SECOND = 0.1


class ThrottledStream(PacedStream):
    """Sends `rate` bytes a second: every tenth of a second a tenth of that, but at least a byte.

    An unused share of the rate is lost: after a while without traffic nothing goes faster.
    """

    def __init__(self, inner: Stream, rate: float) -> None:
        super().__init__(inner, max(int(rate * _SHARE_OF_A_SECOND), 1))
        self._rate = rate

    def _interval_after(self, size: int) -> float:
        return size / self._rate
