"""`Outbox`: what waits to be sent to one client, by tasks that must not wait for it."""

from __future__ import annotations

import collections
import threading
from types import TracebackType
from typing import NamedTuple, Self

from anysock.engines.base import Data, Event
from anysock.engines.current import current_engine
from anysock.errors import OutboxFull, StreamClosed, UsageError, WrongType
from anysock.streams.connection import Connection
from anysock.streams.lock import Turns
from anysock.tasks.groups import task_group

#: What happens to a message for which there is no room.
POLICIES = ("wait", "drop_oldest", "drop_newest", "disconnect")

#: Bounds of an outbox, unless others are given.
MAX_ITEMS = 1000
MAX_BYTES = 1_048_576

# How many messages, and about how many bytes, are sent at once.
_SEND_ITEMS = 256
_SEND_BYTES = 65_536


class Outcome(NamedTuple):
    """What has become of a message that was given to an outbox."""

    taken: bool
    #: How many messages were dropped for want of room, and whether the peer was disconnected.
    dropped: int = 0
    disconnected: bool = False


_TAKEN = Outcome(True)


class Outbox:
    """What waits to be sent to the peer of `connection`, in the order in which it was given.

    For messages that others send to it, and that must not wait because one client reads slowly: see
    `Broadcast`. Within the ``async with`` block a task of its own sends what is there, as much as
    there is at once. Meanwhile nobody else sends on the connection: the handler's own answers go
    through `send`. The block ends when what waits is sent; when it raises, or is cancelled, the
    rest is dropped (under `threads`, once the send that runs returns). When the connection is lost,
    the block is given up, and raises what the send raised.

    At most `max_items` messages wait, and `max_bytes` bytes of them, besides what is being sent (64
    KiB, or one message). `when_full` says what `offer` does when there is no room:

    - ``"disconnect"``: the connection is aborted, and the log says why. For messages of which none
      may be missing; the client comes back, and asks for what it has missed;
    - ``"drop_oldest"``: those that have waited longest are dropped. For a state of which the latest
      is what counts, such as prices;
    - ``"drop_newest"``: the message is dropped;
    - ``"wait"``: it is refused; `Broadcast.publish` waits for room, and so for the slowest reader.

    Raises `UsageError` for a policy that is unknown, and under an engine that does one thing at a
    time.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        when_full: str = "disconnect",
    ) -> None:
        check_bounds(max_items, max_bytes, when_full)
        self._engine = current_engine()
        if not self._engine.concurrent:
            raise UsageError(
                f"the engine {self._engine.name!r} does one thing at a time, and an outbox is sent "
                "beside its handler: use another engine"
            )
        self.connection = connection
        self.when_full = when_full
        #: How many messages were dropped, and how many bytes these had.
        self.dropped = 0
        self.dropped_bytes = 0
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        # Whether nothing more is taken; and why nothing more is sent.
        self._closed = False
        self._failure: BaseException | None = None
        # Raised when there is something to send, and when there is room.
        self._work: Event | None = None
        self._room: Event | None = None
        # One at a time waits for room, first come, first served.
        self._turn = Turns(1)
        # The task that sends, and what gives the block up when that fails.
        self._group = task_group()
        # For `threads`; under other engines no task ever waits for it.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._items)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait."""
        return self._bytes

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    def offer(self, data: Data) -> bool:
        """Have `data` sent, and do not wait. False when it will not be, for want of room or since
        the outbox is closed; if there is no room, what `when_full` says is done.

        To be called where tasks run, under `threads` from any of them.
        """
        return self.put(bytes(data)).taken

    def put(self, data: bytes) -> Outcome:
        """As `offer`; for `Broadcast`, which counts what has become of what it publishes."""
        with self._lock:
            if self._closed:
                return Outcome(False)
            # (Whoever waits for room comes first.)
            if self._has_room(data) and (self._turn.free or self.when_full != "wait"):
                self._add(data)
                return _TAKEN
            if self.when_full == "wait":
                return Outcome(False)
            if self.when_full == "drop_newest":
                self._count(data)
                return Outcome(False, dropped=1)
            if self.when_full == "drop_oldest":
                dropped = 0
                while self._items and not self._has_room(data):
                    oldest = self._items.popleft()
                    self._bytes -= len(oldest)
                    self._count(oldest)
                    dropped += 1
                self._add(data)
                return Outcome(True, dropped=dropped)
            self._closed = True
            self.connection.overrun = OutboxFull(len(self._items), self._bytes)
            self._items.clear()
            self._bytes = 0
        # Its close would wait for a peer that does not read.
        self.connection.abort()
        self.close()
        return Outcome(False, disconnected=True)

    async def send(self, data: Data) -> None:
        """Have `data` sent, once there is room for it, whatever `when_full` says: for answers of
        the handler itself, which can wait. Raises `StreamClosed` when the outbox is closed, and
        what the sending of it met."""
        data = bytes(data)
        with self._lock:
            self._check_open()
            if self._turn.free and self._has_room(data):
                self._add(data)
                return
        await self._turn.enter()
        try:
            while True:
                with self._lock:
                    self._check_open()
                    if self._has_room(data):
                        self._add(data)
                        return
                    self._room = room = self._engine.event()
                await room.wait()
        finally:
            self._turn.leave()

    def close(self) -> None:
        """Take nothing more; what waits is still sent. Safe to call again."""
        with self._lock:
            self._closed = True
            self._wake()

    # -- with the lock held --------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise StreamClosed("send() on an outbox that is closed")

    def _has_room(self, data: bytes) -> bool:
        # One message has room in any case: a limit that nothing meets would make it wait for ever.
        return not self._items or (
            len(self._items) < self._max_items and self._bytes + len(data) <= self._max_bytes
        )

    def _add(self, data: bytes) -> None:
        self._items.append(data)
        self._bytes += len(data)
        if self._work is not None:
            self._work.set()
            self._work = None

    def _count(self, dropped: bytes) -> None:
        self.dropped += 1
        self.dropped_bytes += len(dropped)

    def _wake(self) -> None:
        for event in (self._work, self._room):
            if event is not None:
                event.set()
        self._work = self._room = None

    def _take(self) -> list[bytes]:
        """Some of what waits, to be sent at once."""
        pieces: list[bytes] = []
        size = 0
        while self._items and len(pieces) < _SEND_ITEMS and size < _SEND_BYTES:
            piece = self._items.popleft()
            pieces.append(piece)
            size += len(piece)
        self._bytes -= size
        if pieces and self._room is not None:
            self._room.set()
            self._room = None
        return pieces

    # ------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send what is there, until the outbox is closed and empty."""
        try:
            while True:
                with self._lock:
                    pieces = self._take()
                    if not pieces:
                        if self._closed:
                            break
                        self._work = work = self._engine.event()
                if pieces:
                    await self.connection.send_all(pieces)
                else:
                    await work.wait()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self.close()
        if self.connection.overrun is not None:
            raise self.connection.overrun

    async def __aenter__(self) -> Self:
        # If there is no room for the task, there is no block to be left.
        self._group.spawn(self._send(), f"outbox {self.connection.peer}")
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as failures:
            # Its sender, or the block, or both.
            if error not in failures.exceptions:
                raise failures.exceptions[0] from None


def check_bounds(max_items: int, max_bytes: int, when_full: str) -> None:
    """Raises `WrongType` and `UsageError` if these can't bound an outbox."""
    for name, value in (("max_items", max_items), ("max_bytes", max_bytes)):
        if not isinstance(value, int):
            raise WrongType(f"{name} is a whole number, not {value!r}")
        if value < 1:
            raise UsageError(f"{name} is at least 1, not {value}")
    if when_full not in POLICIES:
        raise UsageError(f"when_full is one of {', '.join(POLICIES)}, not {when_full!r}")
