"""``--reset-after``: the connection is reset, after so many bytes."""

from __future__ import annotations

from anysock.engines.current import current_engine
from anysock.faults.ending import EndingStream

# How often it is looked whether the peer has taken everything, and how long nothing may happen
# before it is not waited for any longer, in seconds. A peer may take 40 ms and more to say that it
# has something (delayed acknowledgements, tcp(7)).
_BETWEEN_LOOKS = 0.002
_STAND_STILL = 0.25


class ResetAfter(EndingStream):
    """Sends so many bytes, and then a reset, when the peer has received them.

    A reset throws away what has not left yet (socket(7), SO_LINGER). So it waits for the peer to
    take everything, as long as that takes any of it.
    """

    how = "reset"

    async def _until_ready(self) -> None:
        engine = current_engine()
        taken, since = self._inner.progress(), engine.now()
        while taken < self._inner.bytes_sent and engine.now() - since < _STAND_STILL:
            await engine.sleep(_BETWEEN_LOOKS)
            before, taken = taken, self._inner.progress()
            if taken != before:
                since = engine.now()

    def _end(self) -> None:
        self._inner.abort()
