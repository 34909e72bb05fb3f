"""``--reset-after``: the connection is reset, after a given number of bytes."""

from __future__ import annotations

from anysock.engines.current import current_engine
from anysock.faults.ending import EndingStream

# Seconds between two checks whether the peer has taken everything, and seconds without progress
# after which the peer is not waited for any longer. A peer may take 40 ms and more to acknowledge
# data (delayed acknowledgements, tcp(7)).
_CHECK_SECONDS = 0.002
_STALL_SECONDS = 0.25


class ResetAfter(EndingStream):
    """Sends at most `most` bytes, and then a reset, once the peer has received them.

    A reset discards data that has not left yet (socket(7), SO_LINGER). So it waits for the peer to
    take everything, as long as the peer makes progress.
    """

    how = "reset"

    async def _until_ready(self) -> None:
        engine = current_engine()
        taken, since = self._inner.progress(), engine.now()
        while taken < self._inner.bytes_sent and engine.now() - since < _STALL_SECONDS:
            await engine.sleep(_CHECK_SECONDS)
            before, taken = taken, self._inner.progress()
            if taken != before:
                since = engine.now()

    def _end(self) -> None:
        self._inner.abort()
