"""``--slice``: what is sent leaves in small pieces, each a segment of its own."""

from __future__ import annotations

from anysock.faults.timed import PacedStream

# Seconds between two pieces. TCP_NODELAY alone does not keep them apart: pieces that wait for the
# network card, or for room at the peer, are put together again (tcp(7), tcp_autocorking); and a
# peer that is slower than we are finds several in its buffer.
_APART_SECONDS = 0.001


class SlicedStream(PacedStream):
    """Sends pieces of at most `most` bytes, a millisecond apart.

    While the peer does not read, and its window is closed, the system may put several together.
    """

    def _interval_after(self, size: int) -> float:
        return _APART_SECONDS
