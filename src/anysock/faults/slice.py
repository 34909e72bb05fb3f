"""``--slice``: what is sent leaves in small pieces, each a segment of its own."""

from __future__ import annotations

from anysock.faults.pausing import PacedStream

# Between two pieces, in seconds. TCP_NODELAY alone does not keep them apart: what waits for the
# network card, or for the peer to make room, is put together again (tcp(7), tcp_autocorking); and
# a peer that is not as quick as we are finds several in its buffer.
_APART = 0.001


class SlicedStream(PacedStream):
    """Sends pieces of at most so many bytes, a millisecond apart.

    While the peer does not read, and its window is closed, the system may put several together.
    """

    def _pause_after(self, size: int) -> float:
        return _APART
