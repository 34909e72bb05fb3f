"""What a server does beside its connections: it looks after their limits of time, and keeps at what
must not end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from anysock.engines.base import Engine, Task
from anysock.machine.memory import resident
from anysock.server.accept_policy import BACK_OFF_SECONDS, LOG_INTERVAL_SECONDS, OncePer
from anysock.server.session import Served, TimeLimits
from anysock.telemetry.events import CloseReason, Events

# A look that comes so much later than planned has found everybody held up, and not only those it
# would blame: the process was stopped (SIGSTOP, a frozen container), or a handler held the loop.
LATE_SECONDS = 0.1

# How many late looks in a row excuse everybody. Where all are late, for want of CPU, limits still
# hold, if not to the point.
MOST_EXCUSED = 3

# What a connection is given before it is ended for its silence: whoever has data in the socket is
# not silent, and may not have been heard yet.
SETTLE_SECONDS = 0.05

# How many connections are looked at in a row before the others get their turn: a look costs 1 to 2
# µs, and one at 10,000 of them would hold up everybody for a hundredth of a second.
LOOKS_IN_A_ROW = 256

# How often to look how much memory is used; to what share of the limit it is brought down; and how
# many connections are ended for that in a row: each costs its reset, and its task a step.
MEMORY_SECONDS = 1.0
ENOUGH = 0.9
ENDS_IN_A_ROW = 16


class Punctuality:
    """Whether looks come when they should."""

    def __init__(self, now: float) -> None:
        self._looked = now
        self._excused = 0

    def held_up(self, now: float, planned: float) -> float:
        """A look that was to come `planned` seconds after the last comes now. How many seconds do
        not count for those who are looked at; 0: it is in time, and may judge."""
        passed, self._looked = now - self._looked, now
        if passed - planned < LATE_SECONDS or self._excused >= MOST_EXCUSED:
            self._excused = 0
            return 0.0
        self._excused += 1
        return passed


class Housekeeping:
    """The tasks that a server keeps beside its connections. Whatever they raise, they go on."""

    def __init__(self, engine: Engine, events: Events) -> None:
        self._engine = engine
        self._events = events
        self._tasks: list[Task[Any]] = []

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work()`` until it returns, or `end` is called."""
        self._tasks.append(self._engine.spawn_background(self._at_it(name, work), name=name))

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _at_it(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        told = OncePer(LOG_INTERVAL_SECONDS)
        while True:
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001
                left_out = told.allow(self._engine.now())
                if left_out is not None:
                    self._events.housekeeping_failed(name, error, left_out)
            await self._engine.sleep(BACK_OFF_SECONDS)

    async def watch_memory(self, clients: Callable[[], Sequence[Served]], most: int) -> None:
        """Each second, see to it that what `clients` hold is no more than `most` bytes together."""
        engine = self._engine
        while True:
            await engine.sleep(MEMORY_SECONDS)
            used = resident()
            if used is not None and used <= most:
                continue  # so they can't hold more; and to look at each of them costs something
            held = 0
            costs: list[tuple[float, Served]] = []
            for number, client in enumerate(clients(), 1):
                if client.ended is None and (its := client.connection.held):
                    held += its
                    costs.append((client.cost(), client))
                if number % LOOKS_IN_A_ROW == 0:
                    await engine.sleep(0)
            if held <= most:
                continue
            costs.sort(key=lambda each: each[0], reverse=True)
            for number, (_, client) in enumerate(costs, 1):
                if held <= most * ENOUGH:
                    break
                if client.ended is None:
                    held -= client.connection.held
                    client.end_at_once(CloseReason.MEMORY, engine.now())
                if number % ENDS_IN_A_ROW == 0:
                    await engine.sleep(0)

    async def look_after(
        self, clients: Callable[[], Sequence[Served]], limits: TimeLimits, seconds: float
    ) -> None:
        """Every so many `seconds`, end those of `clients` that have had their time."""
        engine = self._engine
        punctuality = Punctuality(engine.now())
        while True:
            await engine.sleep(seconds)
            held_up = punctuality.held_up(engine.now(), seconds)
            silent: list[Served] = []
            for number, client in enumerate(clients(), 1):
                now = engine.now()
                if held_up:
                    client.excuse(held_up, now)
                elif client.is_silent(now, limits):
                    silent.append(client)
                else:
                    client.look(now, limits)
                if number % LOOKS_IN_A_ROW == 0:
                    await engine.sleep(0)
            if not silent:
                continue
            began = engine.now()
            await engine.sleep(SETTLE_SECONDS)
            if engine.now() - began - SETTLE_SECONDS < LATE_SECONDS:
                for client in silent:
                    client.look(engine.now(), limits)
