"""Costly work: so much of it in a turn of the loop, and the rest in the next ones."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TypeVar

from anysock.engines.base import Engine, Event

T = TypeVar("T")

# How much costly work may be done in one turn of the loop, in seconds; and what is none: it costs
# about as much as the turn itself.
MOST_IN_A_TURN = 0.002
_CHEAP = 0.000_05

# What work is taken to cost until some was done; from then on, as much as any has of late.
_FIRST_GUESS = 0.001
_FADING = 0.9


class CostlyWork:
    """Shared by tasks whose steps may take a millisecond each, as a signature does, so that many of
    them, all ready at once, do not make one turn of the loop that holds up everybody else.

    So much is done in a turn as takes `MOST_IN_A_TURN`; who comes later waits, and they are let in
    in their order. Where each task has a thread of its own, nobody is held up, and nobody waits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # What was done since the others have had their turn, or is about to be, in seconds.
        self._spent = 0.0
        self._guess = _FIRST_GUESS
        self._waiting: collections.deque[_Place] = collections.deque()

    async def do(self, work: Callable[[], T]) -> T:
        """The result of ``work()``, which is called when it is in order; or what it raises."""
        engine = self._engine
        if not engine.one_thread:
            return work()
        reckoned = await self._until_in_order()
        began = engine.now()
        try:
            return work()
        finally:
            await self._account_for(engine.now() - began, reckoned)

    async def _until_in_order(self) -> float:
        """Returns with how much it is reckoned: so much is given back, or corrected, after it."""
        place = _Place(self._engine.event())
        self._waiting.append(place)
        self._let_in()
        if not place.reckoned:
            try:
                await place.turn.wait()
            except BaseException:
                if place.reckoned:
                    self._give_back(place.reckoned)
                else:
                    self._waiting.remove(place)
                raise
        return place.reckoned

    async def _account_for(self, took: float, reckoned: float) -> None:
        if took > _CHEAP:
            self._spent += took - reckoned
            self._guess = max(took, self._guess * _FADING)
            try:
                await self._engine.sleep(0)
            finally:
                self._give_back(took)
        else:
            self._give_back(reckoned)

    def _give_back(self, seconds: float) -> None:
        self._spent -= seconds
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._spent < MOST_IN_A_TURN:
            place = self._waiting.popleft()
            place.reckoned = self._guess
            self._spent += self._guess
            place.turn.set()


class _Place:
    """In the queue. `reckoned` is more than 0 once it is its turn."""

    __slots__ = ("reckoned", "turn")

    def __init__(self, turn: Event) -> None:
        self.turn = turn
        self.reckoned = 0.0
