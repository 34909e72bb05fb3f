"""A conversation over any stream: TLS, where the load generator can't go below.

Slower than `Conversation`, which reads and writes the descriptor: a coroutine a message more.
"""

from __future__ import annotations

from collections.abc import Callable

from anysock.bench.generator.conversation import Bookkeeping, max_read
from anysock.bench.generator.faults import Fault
from anysock.errors import AnysockError

# Bytes sent at once, at most.
_MAX_SENT = 262_144


class StreamConversation(Bookkeeping):
    """One that goes through the stream's own methods."""

    __slots__ = ()

    def _push(self) -> None:
        """Leave all to `_send_rest`: a stream may have to wait."""

    async def _send_rest(self) -> None:
        try:
            while self._owed:
                most = min(self._owed, max(_MAX_SENT // self._size, 1) * self._size)
                part = self._view[self._send_at : self._send_at + most]
                # Their echo may arrive before `send_all` returns.
                self._owed -= len(part)
                self._send_at = (self._send_at + len(part)) % self._size
                await self._stream.send_all(part)
            self._sending = False
        except (OSError, AnysockError):
            # The receiver finds that out, too, and reports it.
            return

    async def receive(self, clock: Callable[[], float], done: Callable[[int, float], None]) -> None:
        most = max_read(self._size)
        while True:
            data = await self._received(most)
            now = clock()
            count = self._check(data)
            if count:
                done(count, now)

    async def exchange(self, due: float, clock: Callable[[], float]) -> tuple[float, float]:
        begun = clock()
        self.send(1, due)
        first = 0.0
        while True:
            data = await self._received(max_read(self._size))
            now = clock()
            first = first or now - begun
            if self._check(data):
                self.times.popleft()
                return first, now

    async def ping_pong(self, clock: Callable[[], float], add: Callable[[float], None]) -> None:
        size = self._size
        message = self._pattern[:size]
        while True:
            self.sent = clock()
            self._unanswered = size
            self._read_at = 0
            await self._sent(message)
            while self._unanswered:
                self._check(await self._received(size + 1))
            add(clock() - self.sent)

    async def _received(self, most: int) -> bytes:
        try:
            return await self._stream.recv(most)
        except AnysockError as error:
            raise Fault(str(error)) from None

    async def _sent(self, message: bytes) -> None:
        try:
            await self._stream.send_all(message)
        except AnysockError as error:
            raise Fault(str(error)) from None
