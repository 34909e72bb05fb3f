"""`Event` and `Queue`: how tasks wait for each other. The same under every engine."""

from __future__ import annotations

import collections
import threading
from typing import Generic, Self, TypeVar

from anysock.engines import base
from anysock.engines.current import current_engine
from anysock.errors import QueueClosed, QueueEmpty, QueueFull, WrongType

T = TypeVar("T")


class Event:
    """A flag that tasks wait for. To be made, set and waited for under one engine.

    >>> import anysock
    >>> async def main():
    ...     ready = anysock.Event()
    ...     task = anysock.spawn(wait_for(ready))
    ...     ready.set()
    ...     return await task.join()
    >>> async def wait_for(event):
    ...     await event.wait()
    ...     return "it is up"
    >>> anysock.run(main)
    'it is up'
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = current_engine().event()

    def set(self) -> None:
        """Raise the flag, for good, and wake all tasks that wait for it."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return at once when the flag is up, else when it goes up."""
        await self._event.wait()


class Queue(Generic[T]):
    """A queue between tasks, in the order of arrival, that holds at most `max_items` items.

    A producer that is faster than its consumer waits in `put`: that is the back-pressure, and so
    there is no queue without a bound. `close` says that nothing more will come; what is there is
    still handed out. Iterating gives the items until the queue is closed and empty.

    >>> import anysock
    >>> async def main():
    ...     queue = anysock.Queue(max_items=10)
    ...     for word in ("one", "two"):
    ...         await queue.put(word)
    ...     queue.close()
    ...     return [word async for word in queue]
    >>> anysock.run(main)
    ['one', 'two']
    """

    def __init__(self, max_items: int) -> None:
        if not isinstance(max_items, int):
            raise WrongType(f"a queue holds a whole number of items, not {max_items!r}")
        if max_items < 1:
            raise ValueError(f"a queue holds at least 1 item, not {max_items}")
        self.max_items = max_items
        self._engine = current_engine()
        self._items: collections.deque[T] = collections.deque()
        self._closed = False
        self._getters: collections.deque[base.Event] = collections.deque()
        self._putters: collections.deque[base.Event] = collections.deque()
        # For `threads`; under other engines no task ever waits for it.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many items are there."""
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether `close` was called. There may be items left to get."""
        return self._closed

    def put_nowait(self, item: T) -> None:
        """Add an item. Raises `QueueFull`, or `QueueClosed` when the queue is closed."""
        with self._lock:
            self._put(item)

    async def put(self, item: T) -> None:
        """Add an item, once there is room. Raises `QueueClosed` when the queue is closed, also
        while this waits; then the item is not in the queue."""
        first = True
        while True:
            with self._lock:
                if self._closed or len(self._items) < self.max_items:
                    self._put(item)
                    return
                waiter = self._engine.event()
                self._line_up(waiter, self._putters, first)
            first = False
            await self._wait(waiter, self._putters)

    def get_nowait(self) -> T:
        """Take the oldest item. Raises `QueueEmpty`, or `QueueClosed` when none will come."""
        with self._lock:
            return self._get()

    async def get(self) -> T:
        """Take the oldest item, once there is one. Raises `QueueClosed` when none will come."""
        first = True
        while True:
            with self._lock:
                if self._items or self._closed:
                    return self._get()
                waiter = self._engine.event()
                self._line_up(waiter, self._getters, first)
            first = False
            await self._wait(waiter, self._getters)

    def close(self) -> None:
        """Say that nothing more will be put, and wake all tasks that wait. Safe to call again."""
        with self._lock:
            self._closed = True
            for waiters in (self._getters, self._putters):
                while waiters:
                    waiters.popleft().set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get()
        except QueueClosed:
            raise StopAsyncIteration from None

    # -- with the lock held --------------------------------------------------------------------

    def _put(self, item: T) -> None:
        if self._closed:
            raise QueueClosed("the queue is closed")
        if len(self._items) >= self.max_items:
            raise QueueFull(f"the queue holds {self.max_items} items already")
        self._items.append(item)
        self._wake_one(self._getters)

    def _get(self) -> T:
        if not self._items:
            if self._closed:
                raise QueueClosed("the queue is closed, and empty")
            raise QueueEmpty("the queue is empty")
        item = self._items.popleft()
        self._wake_one(self._putters)
        return item

    def _wake_one(self, waiters: collections.deque[base.Event]) -> None:
        if waiters:
            waiters.popleft().set()

    def _line_up(
        self, waiter: base.Event, waiters: collections.deque[base.Event], first: bool
    ) -> None:
        # A waiter that was woken but lost the race goes back to the head of the queue.
        (waiters.append if first else waiters.appendleft)(waiter)

    # ------------------------------------------------------------------------------------------

    async def _wait(self, waiter: base.Event, waiters: collections.deque[base.Event]) -> None:
        try:
            await waiter.wait()
        except BaseException:
            with self._lock:
                if waiter in waiters:
                    waiters.remove(waiter)
                else:
                    # Woken and cancelled at the same time: the next one is woken instead.
                    self._wake_one(waiters)
            raise
