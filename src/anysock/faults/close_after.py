"""``--close-after``: the connection ends, in good order, perhaps in the middle of an answer."""

from __future__ import annotations

from anysock.faults.ending import EndingStream


class CloseAfter(EndingStream):
    """Sends at most `most` bytes, and then nothing more: the handler is told that the connection is
    over, and the server closes it, as it does every connection."""

    how = "closed"

    def _end(self) -> None:
        # A task of the handler that waits for the peer would not notice the end otherwise. (Where
        # none waits, the stream is better left open: a peer that is still sending then has a while
        # to notice, before its data is answered with a reset.)
        if self._inner.receiving:
            self._inner.end_receiving()
