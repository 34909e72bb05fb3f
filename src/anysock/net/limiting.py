"""A stream that moves no more than so many bytes, and no more than so many a second."""

from __future__ import annotations

from anysock.engines.base import Data, Engine, Stream
from anysock.net.wrapping import WrappedStream

# How much may be moved at once, as a share of a second at the rate allowed: so long a pause is the
# longest, and a drain, or an abort, waits no longer for one.
_SHARE_OF_A_SECOND = 0.1


class TooManyBytes(ConnectionError):
    """The connection has moved as many bytes as one may."""


class LimitedStream(WrappedStream):
    """Ends after `most` bytes received, or sent; and moves `rate` bytes a second, each way.

    The peer that has sent `most` bytes gets the answer to these, and then the end of the stream;
    the one that is sent more gets the end after `most` bytes.
    """

    def __init__(
        self, inner: Stream, engine: Engine, *, most: int | None = None, rate: float | None = None
    ) -> None:
        super().__init__(inner)
        self._engine = engine
        self._may_receive = most
        self._may_send = most
        self._rate = rate
        self._at_once = None if rate is None else max(int(rate * _SHARE_OF_A_SECOND), 1)
        now = engine.now()
        # When the next byte may come, and go.
        self._next_receive = self._next_send = now
        self.too_many: TooManyBytes | None = None

    @property
    def lost(self) -> OSError | None:
        return self.too_many or self._inner.lost

    async def recv(self, max_bytes: int | None = None) -> bytes:
        if self._rate is not None:
            await self._until(self._next_receive)
        asked = max_bytes
        for bound in (self._at_once, self._may_receive):
            if bound is not None:
                asked = bound if asked is None else min(asked, bound)
        if self._may_receive == 0:
            # What comes now is one byte too many; the end of the stream is none.
            if not await self._inner.recv(1):
                return b""
            self.too_many = TooManyBytes("the connection has received as many bytes as one may")
            return b""
        data = await self._inner.recv(asked)
        if self._may_receive is not None:
            self._may_receive -= len(data)
        if self._rate is not None:
            now = self._engine.now()
            self._next_receive = max(self._next_receive, now) + len(data) / self._rate
        return data

    async def send_all(self, data: Data) -> None:
        rest = memoryview(data)
        while rest:
            part = rest
            if self._may_send is not None:
                if not self._may_send:
                    self.too_many = TooManyBytes("the connection was sent as many bytes as one may")
                    raise self.too_many
                part = part[: self._may_send]
            if self._rate is not None:
                await self._until(self._next_send)
                part = part[: self._at_once]
            await self._inner.send_all(part)
            if self._may_send is not None:
                self._may_send -= len(part)
            if self._rate is not None:
                now = self._engine.now()
                self._next_send = max(self._next_send, now) + len(part) / self._rate
            rest = rest[len(part) :]

    async def _until(self, when: float) -> None:
        seconds = when - self._engine.now()
        if seconds > 0:
            await self._engine.sleep(seconds)
