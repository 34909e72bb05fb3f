"""One connection under load: what goes out, what must come back, and how long it took.

The load generator must not be slower than what it measures, so it goes below `Stream`: it stands on
the loop's own waits, reads and writes the descriptor, and reads the clock once a message.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
import types
from collections.abc import Callable, Generator
from typing import cast

from anysock.bench.generator.faults import Fault
from anysock.bench.generator.plan import FRAME_PREFIX
from anysock.engines.base import Stream
from anysock.engines.current import current_engine
from anysock.engines.nonblocking.streams import NonblockingStream
from anysock.engines.posix.streams import LINGER_SECONDS
from anysock.errors import AnysockError, StreamClosed
from anysock.loop.kernel import Kernel
from anysock.loop.tasks import Wait, suspend
from anysock.loop.waits import Descriptor, ReadWait, WriteWait

_read = os.read
_write = os.write

# Up to this size a message and its answer always fit in the socket's buffers, so that a client with
# one message in flight need not read while it sends.
SMALL = 16 * 1024


def max_read(size: int) -> int:
    """How many bytes to receive at once, of messages of `size` bytes."""
    return 65536 if size <= 65536 else 262_144


def pattern_of(number: int, size: int, *, lines: bool = False, frames: bool = False) -> bytes:
    """What connection `number` sends: a message of `size` bytes, over and over.

    The pattern is long enough to compare with what one receive returns, wherever in the message it
    begins. The messages of two connections differ, as far as `size` allows, so that an answer that
    belongs to another connection is noticed. A message is one of `lines`, one of `frames`, or just
    bytes; `size` is of all of it, with the line's ending or the frame's prefix.
    """
    if lines:
        tag = b"%d " % number
        text = bytes(33 + (number * 7 + place * 31) % 94 for place in range(97))
        message = (tag + text * (size // len(text) + 1))[: size - 2] + b"\r\n"
    else:
        tag = number.to_bytes(4, "big")
        octets = bytes((number * 7 + place * 31) % 251 for place in range(4, 255))
        prefix = (size - FRAME_PREFIX).to_bytes(FRAME_PREFIX, "big") if frames else b""
        message = (prefix + tag + octets * (size // len(octets) + 1))[:size]
    return message * (max_read(size) // size + 2)


class Bookkeeping:
    """A connection that sends one message over and over: which messages are in flight, and whether
    their echo is right. Subclasses send and receive."""

    __slots__ = (
        "_kernel",
        "_owed",
        "_pattern",
        "_read_at",
        "_send_at",
        "_sending",
        "_size",
        "_stream",
        "_unanswered",
        "_view",
        "fault",
        "sent",
        "times",
    )

    def __init__(self, kernel: Kernel, stream: Stream, pattern: bytes, size: int) -> None:
        self._kernel = kernel
        self._stream = stream
        self._pattern = pattern
        self._view = memoryview(pattern)
        self._size = size
        #: When each message in flight was due, the oldest first.
        self.times: collections.deque[float] = collections.deque()
        #: When the one message of `ping_pong` was sent.
        self.sent = math.inf
        #: Why it was given up; see `give_up`.
        self.fault: str | None = None
        self._unanswered = 0  # bytes
        self._owed = 0  # of these, bytes that the socket has not accepted yet
        self._send_at = 0  # where in the message the next byte to send stands
        self._read_at = 0
        self._sending = False

    def waiting_since(self) -> float:
        """When the oldest message that is not answered was due; infinite when there is none."""
        return self.times[0] if self.times else self.sent

    def give_up(self, kind: str) -> None:
        """Let the reader of this conversation end with a `Fault` of that kind."""
        self.fault = kind
        self._stream.end_receiving()

    # -- sending -------------------------------------------------------------------------------

    def send(self, count: int, due: float) -> None:
        """Send `count` messages, which were due at `due`; what the socket does not accept at
        once is sent later."""
        self.times.extend(itertools.repeat(due, count))
        size = count * self._size
        self._unanswered += size
        self._owed += size
        if not self._sending:
            self._push()
            if self._owed:
                self._sending = True
                self._kernel.spawn(self._send_rest(), "load-sender")

    def _push(self) -> None:
        """Send what is owed, as far as possible without waiting."""
        raise NotImplementedError

    async def _send_rest(self) -> None:
        """Send the rest of what is owed, and wait where necessary."""
        raise NotImplementedError

    # -- receiving -----------------------------------------------------------------------------

    def _check(self, data: bytes) -> int:
        """How many messages `data` completes; raises `Fault` if it is wrong."""
        length = len(data)
        if not length:
            raise Fault(self.fault or "closed by the server")
        if length > self._unanswered - self._owed:
            raise Fault("more than was sent")
        if data != self._pattern[self._read_at : self._read_at + length]:
            raise Fault("corrupt")
        self._unanswered -= length
        count, self._read_at = divmod(self._read_at + length, self._size)
        return count

    async def close(self, reset: bool = False) -> None:
        """Close the connection; with `reset`, so that no TIME_WAIT is left. Without, the answer
        that is still to come is waited for, for a second: a closed socket would meet it with a
        reset."""
        if reset:
            self._stream.abort()
        elif self.fault is None and self.waiting_since() < math.inf:
            with contextlib.suppress(OSError, AnysockError):
                await self._stream.send_eof()
                async with current_engine().scope(LINGER_SECONDS):
                    while await self._stream.recv():
                        pass
        await self._stream.close()


class Conversation(Bookkeeping):
    """Reads and writes the descriptor of a stream of our own loop."""

    __slots__ = ("_readable", "_writable")

    _stream: NonblockingStream

    def __init__(
        self, kernel: Kernel, stream: NonblockingStream, pattern: bytes, size: int
    ) -> None:
        super().__init__(kernel, stream, pattern, size)
        descriptor = cast(Descriptor, stream.descriptor)
        self._readable = ReadWait(descriptor)
        self._writable = WriteWait(descriptor)

    def _push(self) -> None:
        """Write what is owed, as far as the socket accepts it."""
        fd = self._stream.descriptor.fd
        while self._owed:
            part = self._view[self._send_at : self._send_at + self._owed]
            try:
                sent = _write(fd, part)
            except BlockingIOError:
                return
            self._owed -= sent
            self._send_at = (self._send_at + sent) % self._size
            if sent < len(part):
                return

    async def _send_rest(self) -> None:
        try:
            while self._owed:
                await suspend(self._writable)
                self._push()
            self._sending = False
        except (OSError, StreamClosed):
            # The connection is broken: the receiver finds that out, and reports it. `_sending`
            # stays, so that nothing more is sent.
            return

    @types.coroutine
    def receive(
        self, clock: Callable[[], float], done: Callable[[int, float], None]
    ) -> Generator[Wait, None, None]:
        """Receive until the connection ends, with a `Fault` or an OSError.

        ``done(count, now)`` is called when `count` messages have come back whole; it takes their
        times from `times`.
        """
        fd = self._stream.descriptor.fd
        most = max_read(self._size)
        while True:
            yield self._readable
            try:
                data = _read(fd, most)
            except BlockingIOError:
                continue
            now = clock()
            count = self._check(data)
            if count:
                done(count, now)

    async def exchange(self, due: float, clock: Callable[[], float]) -> tuple[float, float]:
        """Send one message, which was due at `due`, and receive its answer.

        Returns how long its first byte took, and when the answer was complete.
        """
        begun = clock()
        self.send(1, due)
        first = 0.0
        while True:
            await suspend(self._readable)
            try:
                data = _read(self._stream.descriptor.fd, max_read(self._size))
            except BlockingIOError:
                continue
            now = clock()
            first = first or now - begun
            if self._check(data):
                self.times.popleft()
                return first, now

    @types.coroutine
    def ping_pong(
        self, clock: Callable[[], float], add: Callable[[float], None]
    ) -> Generator[Wait, None, None]:
        """Send a small message, wait for its answer, and again, until the connection ends.

        What `send` and `receive` do for one message in flight, without their bookkeeping: 1.1 µs
        a message less.
        """
        fd = self._stream.descriptor.fd
        readable = self._readable
        size = self._size
        # One byte more than was sent, so that surplus data is noticed.
        most = size + 1
        message = self._pattern[:size]
        self.sent = clock()
        _write(fd, message)
        while True:
            yield readable
            try:
                data = _read(fd, most)
                now = clock()
                if data != message:
                    while 0 < len(data) < size and message.startswith(data):
                        yield readable
                        more = _read(fd, most - len(data))
                        now = clock()
                        if not more:
                            raise Fault(self.fault or "closed by the server")
                        data += more
                    if data != message:
                        self._unanswered = size
                        self._check(data)
            except BlockingIOError:
                continue
            add(now - self.sent)
            self.sent = now
            _write(fd, message)
