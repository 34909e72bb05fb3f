"""`Broadcast`: one message to many clients."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

from anysock.engines.base import Data
from anysock.engines.current import current_engine
from anysock.errors import AnysockError
from anysock.streams.connection import Connection
from anysock.tasks.groups import task_group
from anysock.tasks.outbox import MAX_BYTES, MAX_ITEMS, Outbox, check_bounds

# To how many a message is given before other tasks run: each costs about a microsecond, and a
# hundred thousand of them would hold up everybody for a tenth of a second.
_IN_A_ROW = 512


class Broadcast:
    """Sends what is published to all that have joined, each by an `Outbox` of its own: so one that
    reads slowly holds up nobody (unless `when_full` is ``"wait"``), and each gets what was
    published while it was there, in that order.

    It may be made anywhere, also at the top of a module. `max_items`, `max_bytes` and `when_full`
    are those of each outbox.

    >>> import anysock
    >>> room = anysock.Broadcast()
    >>> async def chat(connection):
    ...     async with room.join(connection):
    ...         async for line in connection.lines():
    ...             await room.publish(line)
    """

    def __init__(
        self,
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        when_full: str = "disconnect",
    ) -> None:
        check_bounds(max_items, max_bytes, when_full)
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._when_full = when_full
        # In the order in which they have joined. To add one, to remove one and to copy all are one
        # step each, also between threads.
        self._outboxes: dict[Outbox, None] = {}
        # For `threads`; under other engines no task ever waits for it.
        self._lock = threading.Lock()
        #: How many messages were dropped, of all members together, and how many members were
        #: disconnected, since they did not read fast enough.
        self.dropped = 0
        self.disconnected = 0

    def __len__(self) -> int:
        """How many are there."""
        return len(self._outboxes)

    def __iter__(self) -> Iterator[Outbox]:
        """The outboxes of those that are there now."""
        return iter(list(self._outboxes))

    def add(self, outbox: Outbox) -> None:
        """Let `outbox` get what is published, until `remove`. For an outbox that is in several; it
        has bounds of its own."""
        self._outboxes[outbox] = None

    def remove(self, outbox: Outbox) -> None:
        """Let `outbox` get nothing more. If it is not there, this does nothing."""
        self._outboxes.pop(outbox, None)

    @contextlib.asynccontextmanager
    async def join(self, connection: Connection) -> AsyncIterator[Outbox]:
        """Within the block, `connection` gets what is published. The block gives its `Outbox`,
        through which the handler itself sends."""
        outbox = Outbox(
            connection,
            max_items=self._max_items,
            max_bytes=self._max_bytes,
            when_full=self._when_full,
        )
        async with outbox:
            self.add(outbox)
            try:
                yield outbox
            finally:
                self.remove(outbox)

    async def publish(self, data: Data, *, besides: Outbox | None = None) -> int:
        """Send `data` to all that are there, but to `besides`. Return to how many it goes.

        It waits only where `when_full` is ``"wait"``, for those that have no room; all others have
        it before. What two tasks publish at the same time, all get, though not in the same order.
        """
        data = bytes(data)
        full = []
        sent = 0
        for number, outbox in enumerate(self, 1):
            if number % _IN_A_ROW == 0:
                await current_engine().sleep(0)
            if outbox is besides:
                continue
            outcome = outbox.put(data)
            if outcome.dropped or outcome.disconnected:
                with self._lock:
                    self.dropped += outcome.dropped
                    self.disconnected += outcome.disconnected
            if outcome.taken:
                sent += 1
            elif outbox.when_full == "wait" and not outbox.closed:
                full.append(outbox)
        if full:
            # Side by side: no slow one holds up another.
            async with task_group() as group:
                waiting = [group.spawn(_sent(outbox, data), "publish") for outbox in full]
            for task in waiting:
                sent += await task.join()
        return sent


async def _sent(outbox: Outbox, data: bytes) -> bool:
    """Whether `data` could be sent. One that has left meanwhile, or is gone, nobody misses."""
    try:
        await outbox.send(data)
    except (AnysockError, OSError):
        return False
    return True
