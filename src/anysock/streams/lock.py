"""One task at a time: a second one is refused (`Claim`), or waits (`Lock`); or so many at a time
(`Turns`)."""

from __future__ import annotations

import collections
import threading

from anysock.engines.base import Event
from anysock.engines.current import current_engine
from anysock.errors import StreamBusy


class Claim:
    """Lets one task at a time into a ``with`` block. A second one gets `StreamBusy`, which says
    that another task is `doing` that already."""

    __slots__ = ("_doing", "_lock")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        # Under `threads`, exactly one of two tasks gets it. No task ever waits for it.
        self._lock = threading.Lock()

    @property
    def taken(self) -> bool:
        """Whether a task is in the block."""
        return self._lock.locked()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise StreamBusy(f"another task is already {self._doing} here")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Turns:
    """Lets so many tasks at a time go on. The others wait, first come, first served.

    It belongs to no engine until a task has to wait.
    """

    __slots__ = ("_lock", "_waiting", "free")

    def __init__(self, places: int) -> None:
        #: How many may enter at once now. While there is one, nobody waits.
        self.free = places
        self._waiting: collections.deque[Event] = collections.deque()
        # For `threads`; under the other engines it is never contended.
        self._lock = threading.Lock()

    async def enter(self) -> None:
        """Take a place, once it is one's turn."""
        with self._lock:
            if self.free:
                self.free -= 1
                return
            waiter = current_engine().event()
            self._waiting.append(waiter)
        try:
            await waiter.wait()
        except BaseException:
            with self._lock:
                passed_on = waiter not in self._waiting
                if not passed_on:
                    self._waiting.remove(waiter)
            if passed_on:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back: it goes to the task that has waited for the longest time."""
        with self._lock:
            waiter = self._waiting.popleft() if self._waiting else None
            if waiter is None:
                self.free += 1
        if waiter is not None:
            waiter.set()


class Lock(Turns):
    """Lets one task at a time into an ``async with`` block."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def taken(self) -> bool:
        """Whether a task is in the block."""
        return not self.free

    __aenter__ = Turns.enter

    async def __aexit__(self, *_: object) -> None:
        self.leave()
