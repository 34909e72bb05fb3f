"""`Broadcast`: one message to many clients."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

from anysock.engines.base import Data
from anysock.errors import AnysockError
from anysock.streams.connection import Connection
from anysock.tasks.outbox import MAX_BYTES, MAX_ITEMS, Outbox, check_bounds


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
        self._dropped = 0
        #: How many members were disconnected since they did not read fast enough.
        self.disconnected = 0

    def __len__(self) -> int:
        """How many are there."""
        return len(self._outboxes)

    def __iter__(self) -> Iterator[Outbox]:
        """The outboxes of those that are there now."""
        return iter(list(self._outboxes))

    @property
    def dropped(self) -> int:
        """How many messages were dropped, of all members, with those that have left."""
        return self._dropped + sum(outbox.dropped for outbox in self)

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
            self._outboxes[outbox] = None
            try:
                yield outbox
            finally:
                del self._outboxes[outbox]
                self._dropped += outbox.dropped
                self.disconnected += connection.overrun is not None

    async def publish(self, data: Data, *, besides: Outbox | None = None) -> int:
        """Send `data` to all that are there, but to `besides`. Return to how many it goes.

        It waits only where `when_full` is ``"wait"``, for those that have no room; all others have
        it before. What two tasks publish at the same time, all get, though not in the same order.
        """
        data = bytes(data)
        full = []
        sent = 0
        for outbox in self:
            if outbox is besides:
                continue
            if outbox.offer(data):
                sent += 1
            elif outbox.when_full == "wait" and not outbox.closed:
                full.append(outbox)
        for outbox in full:
            # One that has left meanwhile, or is gone, is missed by nobody.
            with contextlib.suppress(AnysockError, OSError):
                await outbox.send(data)
                sent += 1
        return sent
