"""Costly work, spread over the iterations of a loop."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TypeVar

from anysock.engines.base import Engine, Event

T = TypeVar("T")

# The maximum of costly work in one iteration of the loop, in seconds. Work below the second figure
# is not counted: it costs about as much as the iteration itself.
MAX_SECONDS_PER_ITERATION = 0.002
_CHEAP_SECONDS = 0.000_05

# The cost that is assumed before any work was done, in seconds. After that it is the largest cost
# seen, which fades by this factor with each work.
_FIRST_GUESS = 0.001
_FADING = 0.9


class CostlyWork:
    """Shared by tasks whose steps may take a millisecond each, as a signature does. If many of them
    are ready at once, they must not make one iteration of the loop that holds up all other tasks.

    One iteration does work of `MAX_SECONDS_PER_ITERATION`; later tasks wait, and are admitted in
    order. Where each task has a thread of its own, no task is held up, and none waits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Work that was done, or is about to be done, since the other tasks last ran, in seconds.
        self._spent = 0.0
        self._guess = _FIRST_GUESS
        self._waiters: collections.deque[_Waiter] = collections.deque()

    async def do(self, work: Callable[[], T]) -> T:
        """Call ``work()`` once it is admitted; return its result, or raise its exception."""
        engine = self._engine
        if not engine.one_thread:
            return work()
        reserved = await self._admission()
        began = engine.now()
        try:
            return work()
        finally:
            await self._account_for(engine.now() - began, reserved)

    async def _admission(self) -> float:
        """Wait to be admitted. Return the seconds that are reserved for the work, which the caller
        accounts for afterwards."""
        waiter = _Waiter(self._engine.event())
        self._waiters.append(waiter)
        self._admit()
        if not waiter.reserved:
            try:
                await waiter.admitted.wait()
            except BaseException:
                if waiter.reserved:
                    self._give_back(waiter.reserved)
                else:
                    self._waiters.remove(waiter)
                raise
        return waiter.reserved

    async def _account_for(self, took: float, reserved: float) -> None:
        if took > _CHEAP_SECONDS:
            self._spent += took - reserved
            self._guess = max(took, self._guess * _FADING)
            try:
                await self._engine.sleep(0)
            finally:
                self._give_back(took)
        else:
            self._give_back(reserved)

    def _give_back(self, seconds: float) -> None:
        self._spent -= seconds
        self._admit()

    def _admit(self) -> None:
        while self._waiters and self._spent < MAX_SECONDS_PER_ITERATION:
            waiter = self._waiters.popleft()
            waiter.reserved = self._guess
            self._spent += self._guess
            waiter.admitted.set()


class _Waiter:
    """A task in the queue. `reserved` is more than 0 once it is admitted."""

    __slots__ = ("admitted", "reserved")

    def __init__(self, admitted: Event) -> None:
        self.admitted = admitted
        self.reserved = 0.0
