"""Streams that let time pass on purpose: the base of those that send later, or more slowly."""

from __future__ import annotations

from anysock.engines.base import Stream
from anysock.engines.current import current_engine
from anysock.streams.wrapping import PartingStream


class TimedStream(PartingStream):
    """Can wait until it is time to send. `abort` and `close` end the wait at once.

    Meanwhile it says that it is `sending`, and makes `progress`: there is something to send, so
    that the connection is not at rest; and it is not the peer that holds it up.
    """

    def __init__(self, inner: Stream) -> None:
        super().__init__(inner)
        self._engine = current_engine()
        self._over = self._engine.event()
        self._waiting = False
        # How often the progress was asked for during a wait, and how many waits have ended.
        self._waited = 0

    @property
    def lost(self) -> OSError | None:
        return self._state.lost or self._inner.lost

    @property
    def sending(self) -> bool:
        return self._waiting or self._inner.sending

    def progress(self) -> int:
        self._waited += self._waiting
        return self._inner.progress() + self._waited

    async def _wait_until(self, when: float) -> None:
        """Let time pass. Raises `StreamAborted` when the stream is aborted meanwhile."""
        if when > self._engine.now():
            self._waiting = True
            try:
                # Some loops count in milliseconds, and wake up to one too early.
                while (left := when - self._engine.now()) > 0 and not self._over.is_set():
                    async with self._engine.scope(left):
                        await self._over.wait()
            finally:
                self._waiting = False
                self._waited += 1
        if self._state.lost is not None:
            raise self._state.lost

    def abort(self) -> None:
        self._inner.abort()
        if not self._over.is_set():
            self._state.abort(self._inner.lost)
        self._over.set()

    async def close(self) -> None:
        self._over.set()
        await super().close()


class PacedStream(TimedStream):
    """Sends in pieces of at most `most` bytes, each when it is time for it."""

    def __init__(self, inner: Stream, most: int) -> None:
        super().__init__(inner)
        self._most = most
        self._next = self._engine.now()

    def _interval_after(self, size: int) -> float:
        """Seconds after a piece of `size` bytes until the next may leave."""
        raise NotImplementedError

    async def _send_part(self, data: memoryview) -> int:
        await self._wait_until(self._next)
        piece = data[: self._most]
        await self._inner.send_all(piece)
        self._next = max(self._next, self._engine.now()) + self._interval_after(len(piece))
        return len(piece)
