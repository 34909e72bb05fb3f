"""``--close-after``: the connection ends, in good order, in the middle of an answer."""

from __future__ import annotations

from anysock.faults.ending import EndingStream


class CloseAfter(EndingStream):
    """Sends so many bytes, and then nothing more: the handler is told that the connection is over,
    and the server closes it, as it does every connection."""

    how = "closed"

    def _end(self) -> None:
        # Another task of the handler may wait for the peer, and would not hear of it. (Where none
        # does, the stream is better left open: the peer that is still sending has then a while
        # to notice, before what it sends is answered with a reset.)
        if self._inner.receiving:
            self._inner.end_receiving()
