"""``--delay`` and ``--jitter``: what is sent leaves later, as through a long line."""

from __future__ import annotations

import collections
import random
import threading
from typing import NamedTuple

from anysock.engines.base import Data, Event, Stream
from anysock.errors import AnysockError, StreamClosed
from anysock.faults.timed import TimedStream
from anysock.streams.limiting import TooManyBytes

# How many bytes the line holds: as much as 700 packets of Ethernet. Through a delay of d seconds go
# at most 1/d MiB a second; a faster sender waits.
CAPACITY = 1 << 20

# About how many bytes a piece costs in the line besides its data: many small pieces must not take
# more memory than a few large ones.
_ENTRY = 150

# A larger send is put on the line in pieces of so many bytes, as there is room.
_PIECE = 65536

# How many sends may be done in a row before other tasks run.
_OPS_BEFORE_YIELD = 16


class _Piece(NamedTuple):
    #: It leaves at this time at the earliest, and not before those that are before it in the line.
    due: float
    #: None: the end of the stream.
    data: bytes | None


class DelayedStream(TimedStream):
    """Sends data `seconds` later, plus or minus up to `jitter` seconds, in the same order.

    Sent data is delayed, not received data: so the greeting of a server that speaks first is late,
    too, and the time that a handler takes is not part of the delay. `send_all` returns as soon as
    its data is on the line: an answer is late, but others are under way at the same time. A task of
    its own takes each piece from the line when it is due, and hands it to the stream inside.

    The end of the stream travels on the line behind the rest. `close` waits until all of it has
    left.
    """

    def __init__(self, inner: Stream, seconds: float, jitter: float, chance: random.Random) -> None:
        super().__init__(inner)
        self._least = max(seconds - jitter, 0.0)
        self._most = seconds + jitter
        self._chance = chance
        self._line: collections.deque[_Piece] = collections.deque()
        self._held = 0
        # Between the sender and the task that carries. For `threads`; elsewhere it is always free.
        self._lock = threading.Lock()
        self._more: Event | None = None
        self._room: Event | None = None
        self._empty: Event | None = None
        # Set when the task that carries is gone; None: it was not needed yet.
        self._carried: Event | None = None
        self._failure: Exception | None = None
        self._ops_left = _OPS_BEFORE_YIELD

    @property
    def held(self) -> int:
        return self._inner.held + self._held

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._state.check_receive()
        data = await self._inner.recv(max_bytes)
        if not data and isinstance(self._failure, OSError):
            # The task that carries has met the loss of the peer first.
            raise self._failure
        return data

    async def send_all(self, data: Data) -> None:
        self._check_send("send_all")
        with self._one_sends:
            self._ops_left -= 1
            if self._ops_left < 0:
                # Before anything is on the line: a send that is cancelled here has sent nothing.
                self._ops_left = _OPS_BEFORE_YIELD
                await self._engine.sleep(0)
            lag = self._chance.uniform(self._least, self._most)
            rest = memoryview(data)
            try:
                while rest:
                    await self._until_room()
                    self._put(bytes(rest[:_PIECE]), lag)
                    rest = rest[_PIECE:]
            except BaseException:
                self._state.give_up_send(len(data) - len(rest))
                raise

    async def _send_end(self) -> None:
        self._put(None, self._chance.uniform(self._least, self._most))

    async def until_handed_on(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    break
                empty = self._empty = self._engine.event()
            await empty.wait()
        await super().until_handed_on()

    def abort(self) -> None:
        super().abort()
        self._wake_all()

    async def close(self) -> None:
        if not self._state.close():
            return
        self._wake_all()
        try:
            if self._carried is not None:
                await self._carried.wait()
        except BaseException:
            self.abort()  # the peer must not mistake for everything what it has got so far
            raise
        finally:
            await super().close()

    # -- within ----------------------------------------------------------------------------------

    def _lost_below(self) -> Exception | None:
        if self._failure is not None:
            return self._failure
        # A peer that has sent too much is still answered.
        lost = self._inner.lost
        return None if isinstance(lost, TooManyBytes) else lost

    async def _until_room(self) -> None:
        while True:
            with self._lock:
                full = self._held >= CAPACITY
                # At most one waits for it: there is one sender.
                room = self._room = self._engine.event() if full else None
            self._check_send("send_all")
            if room is None:
                return
            await room.wait()

    def _put(self, data: bytes | None, lag: float) -> None:
        with self._lock:
            self._line.append(_Piece(self._engine.now() + lag, data))
            self._held += _cost(data)
            more = self._more
        if more is not None:
            more.set()
        if self._carried is None:
            self._carried = self._engine.event()
            try:
                self._engine.spawn_background(self._carry(), name=f"delay {self.peer}")
            except BaseException:
                self._carried = None
                self._line.clear()
                raise

    async def _carry(self) -> None:
        """Hand on each piece when it is due, until the stream is closed and the line is empty, or
        the peer is lost."""
        try:
            while (piece := await self._next_piece()) is not None:
                await self._wait_until(piece.due)
                if piece.data is None:
                    await self._inner.send_eof()
                else:
                    await self._inner.send_all(piece.data)
                self._taken(piece)
        except (OSError, AnysockError) as error:
            # For the next send. Its traceback would keep all this from being collected.
            self._failure = error.with_traceback(None)
        except BaseException:
            self._failure = StreamClosed("the task that sends was cancelled")
            raise
        finally:
            with self._lock:
                self._line.clear()
            assert self._carried is not None
            self._carried.set()
            self._wake_all()

    async def _next_piece(self) -> _Piece | None:
        while True:
            with self._lock:
                if self._line:
                    return self._line[0]
                if self._state.closed or self._state.aborted:
                    return None
                more = self._more = self._engine.event()
            await more.wait()

    def _taken(self, piece: _Piece) -> None:
        with self._lock:
            self._line.popleft()
            self._held -= _cost(piece.data)
            room = self._room if self._held < CAPACITY else None
            empty = self._empty if not self._line else None
        for event in (room, empty):
            if event is not None:
                event.set()

    def _wake_all(self) -> None:
        # State check and event creation happen under one lock, so that no wake-up is lost.
        with self._lock:
            events = (self._more, self._room, self._empty)
        for event in events:
            if event is not None:
                event.set()


def _cost(data: bytes | None) -> int:
    return _ENTRY + len(data or b"")
