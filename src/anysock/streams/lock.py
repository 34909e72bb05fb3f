"""One task at a time: in turn, or not at all."""

from __future__ import annotations

import threading

from anysock.engines.base import Event
from anysock.engines.current import current_engine
from anysock.errors import StreamBusy


class Claim:
    """Lets one task at a time into a block: ``with``; a second gets `StreamBusy`, which says that
    another is `doing` it already."""

    __slots__ = ("_doing", "_lock")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        # For `threads`: of two, just one has it. Nobody ever waits for it.
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


class Turn:
    """Lets one task at a time into a block: ``async with``; the others wait, in their order.

    It belongs to no engine until somebody has to wait.
    """

    __slots__ = ("_lock", "_waiting", "taken")

    def __init__(self) -> None:
        #: Whether a task is in the block.
        self.taken = False
        self._waiting: list[Event] = []
        # For `threads`; elsewhere nobody ever waits for it.
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        with self._lock:
            if not self.taken:
                self.taken = True
                return
            turn = current_engine().event()
            self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            with self._lock:
                given = turn not in self._waiting
                if not given:
                    self._waiting.remove(turn)
            if given:
                self._give_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._give_on()

    def _give_on(self) -> None:
        with self._lock:
            self.taken = bool(self._waiting)
            turn = self._waiting.pop(0) if self._waiting else None
        if turn is not None:
            turn.set()
