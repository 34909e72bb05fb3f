"""Connections that end after some messages: as an open loop, or as a closed one."""

from __future__ import annotations

import collections
from typing import Any

from anysock.bench.generator.models.model import LoadModel
from anysock.loop.waits import Event


class Churn(LoadModel):
    """In each slot: connect, exchange `Plan.churn` messages one by one, close, and again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # In an open loop: the messages that are due, and the slots that wait for one.
        self._due: collections.deque[float] = collections.deque()
        self._idle: collections.deque[Event] = collections.deque()
        self.send = self._send

    async def prepare(self) -> int:
        """Nothing: to connect is part of the load."""
        return 0

    async def run_slot(self, place: int) -> None:
        """Load the server on one connection after the other, for ever."""
        assert self._plan.churn is not None
        while True:
            due = await self._next_due()
            with self._tally.errors.counted():
                try:
                    conversation = await self._open(place)
                except BaseException:
                    self._tally.lose(1)
                    raise
                async with self._open_until_done(conversation):
                    for number in range(self._plan.churn):
                        if number:
                            due = await self._next_due()
                        elif self._plan.rate is None:
                            due = self._clock()  # how long it took to connect is told apart
                        first, now = await conversation.exchange(due, self._clock)
                        if not number:
                            self._tally.first_bytes.add(first)
                        self._tally.answered(due, now)

    def waiting(self) -> int:
        """How many messages were due, and are not answered."""
        return len(self._due) + super().waiting()

    def _send(self, due: float) -> None:
        self._due.append(due)
        if self._idle:
            self._idle.popleft().set()

    async def _next_due(self) -> float:
        """When the next message of a slot is due: in a closed loop at once; in an open one, this
        waits for the schedule."""
        if self._plan.rate is None:
            if not self._tally.allow(1):
                await Event(self._engine.kernel).wait()  # for ever: this load is over
            return self._clock()
        while not self._due:
            more = Event(self._engine.kernel)
            self._idle.append(more)
            await more.wait()
        return self._due.popleft()
