"""Streams that end on purpose, after a given number of bytes sent."""

from __future__ import annotations

from anysock.engines.base import Data, Stream
from anysock.streams.wrapping import PartingStream


class EndOnPurpose(ConnectionError):
    """The end that an option asked for. To a handler it looks as if the peer were gone."""


class EndingStream(PartingStream):
    """Sends `most` bytes, and then ends: within a `send_all`, if need be. With 0, the first
    `send_all` ends it. After that, every operation raises `EndOnPurpose`."""

    #: The name of this end, for the message.
    how = ""

    def __init__(self, inner: Stream, most: int) -> None:
        super().__init__(inner)
        self._most = self._left = most

    @property
    def lost(self) -> OSError | None:
        return self._state.lost or self._inner.lost

    async def _until_ready(self) -> None:
        """The last byte is sent: wait until the end may come."""

    def _end(self) -> None:
        """End the stream inside."""
        raise NotImplementedError

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._state.check_receive()
        self._check_end()
        try:
            data = await self._inner.recv(max_bytes)
        except OSError:
            self._check_end()
            raise
        if not data:
            self._check_end()
        return data

    async def send_all(self, data: Data) -> None:
        await super().send_all(data)
        # (With nothing to send, there is no part.)
        self._check_end()

    async def _send_part(self, data: memoryview) -> int:
        self._check_end()
        part = data[: self._left]
        if part:
            await self._inner.send_all(part)
            self._left -= len(part)
        if not self._left:
            await self._until_ready()
            # In this order: a receive on another thread must find the reason when it ends.
            self._state.lose(EndOnPurpose(f"{self.how} on purpose"))
            self._end()
            self._check_end()
        return len(part)

    async def _send_end(self) -> None:
        self._check_end()
        await super()._send_end()

    def _check_end(self) -> None:
        if self._state.lost is not None:
            raise self._state.lost from None
