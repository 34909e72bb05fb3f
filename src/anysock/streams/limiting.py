"""A stream with a maximum of bytes, and a maximum of bytes a second."""

from __future__ import annotations

from anysock.engines.base import Engine, Stream
from anysock.streams.wrapping import PartingStream

# The default maximum of one receive, in bytes. (Not what may still come: a receive that asks for a
# gigabyte allocates a gigabyte first.)
_USUAL_SIZE = 65536

# Piece size and catch-up credit, both in seconds of the allowed rate. A piece is the longest delay,
# which a drain may have to wait for (below 20 bytes a second it is one byte). Without the credit,
# each sleep that takes longer than it should would lower the rate.
_PIECE_SECONDS = 0.05
_CREDIT_SECONDS = 0.05


class TooManyBytes(ConnectionError):
    """The connection was to move more bytes than the limit allows."""


class Pace:
    """When the next bytes may move: at most ``rate * t + rate / 10`` bytes in any `t` seconds (or
    one byte more, where that is less)."""

    def __init__(self, engine: Engine, rate: float) -> None:
        self._engine = engine
        self._rate = rate
        self._next = engine.now()

    async def wait(self) -> None:
        seconds = self._next - self._engine.now()
        if seconds > 0:
            await self._engine.sleep(seconds)

    def moved(self, size: int) -> None:
        earliest = self._engine.now() - _CREDIT_SECONDS
        self._next = max(self._next, earliest) + size / self._rate


class LimitedStream(PartingStream):
    """Ends after more than `most` bytes received, or sent; and moves at most `rate` bytes a second,
    each way.

    A peer that sends more than `most` bytes gets the answer to `most` of them, and then the end of
    the stream; so does one that is sent more. A connection that has moved exactly `most` bytes may
    stay open in silence.
    """

    def __init__(
        self, inner: Stream, engine: Engine, *, most: int | None = None, rate: float | None = None
    ) -> None:
        super().__init__(inner)
        self._may_receive = most
        self._may_send = most
        self._most_at_once = _USUAL_SIZE
        self._piece: int | None = None
        self._receive_pace: Pace | None = None
        self._send_pace: Pace | None = None
        if rate is not None:
            self._piece = max(min(int(rate * _PIECE_SECONDS), _USUAL_SIZE), 1)
            self._receive_pace, self._send_pace = Pace(engine, rate), Pace(engine, rate)
        #: Set when the peer has sent, or was to be sent, a byte too many.
        self.too_many: TooManyBytes | None = None

    @property
    def lost(self) -> OSError | None:
        return self.too_many or self._inner.lost

    def set_recv_size(self, max_bytes: int) -> None:
        self._most_at_once = max_bytes
        super().set_recv_size(max_bytes)

    async def recv(self, max_bytes: int | None = None) -> bytes:
        with self._only_receiver():
            if self.too_many is not None:
                return b""
            asked = min(max_bytes or self._most_at_once, self._piece or self._most_at_once)
            if self._may_receive is not None:
                # What comes when nothing more may is one byte too many; the end of the stream is
                # none.
                asked = min(asked, max(self._may_receive, 1))
            if self._receive_pace is not None:
                await self._receive_pace.wait()
            data = await self._inner.recv(asked)
        if self._receive_pace is not None:
            self._receive_pace.moved(len(data))
        if self._may_receive is not None:
            if len(data) > self._may_receive:
                self.too_many = TooManyBytes("the peer has sent more bytes than one may")
                return b""
            self._may_receive -= len(data)
        return data

    async def _send_part(self, data: memoryview) -> int:
        if self._may_send is not None:
            if not self._may_send:
                self.too_many = TooManyBytes("the peer was to be sent more bytes than one may")
                raise self.too_many
            data = data[: self._may_send]
        if self._send_pace is not None:
            await self._send_pace.wait()
            data = data[: self._piece]
        await self._inner.send_all(data)
        if self._may_send is not None:
            self._may_send -= len(data)
        if self._send_pace is not None:
            self._send_pace.moved(len(data))
        return len(data)
