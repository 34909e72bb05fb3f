"""One task at a time: a second one is refused (`Claim`), or waits (`Lock`)."""

from __future__ import annotations

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


class Lock:
    """Lets one task at a time into an ``async with`` block. The others wait, first come, first
    served.

    It belongs to no engine until a task has to wait.
    """

    __slots__ = ("_lock", "_waiting", "taken")

    def __init__(self) -> None:
        #: Whether a task is in the block.
        self.taken = False
        self._waiting: list[Event] = []
        # For `threads`; under the other engines it is never contended.
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        with self._lock:
            if not self.taken:
                self.taken = True
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
                self._pass_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            self.taken = bool(self._waiting)
            waiter = self._waiting.pop(0) if self._waiting else None
        if waiter is not None:
            waiter.set()
