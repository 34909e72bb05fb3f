"""What a server does beside its connections: it checks their limits of time and of memory, and
restarts what must not end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from anysock.engines.base import Engine, Event, Machine, Task
from anysock.server.accept_policy import BACK_OFF_SECONDS, LOG_INTERVAL_SECONDS, OncePer
from anysock.server.session import Session
from anysock.server.time_limits import TimeLimits
from anysock.telemetry.events import CloseReason, Events

# A check that comes at least so many seconds later than planned excuses all connections: the whole
# server was held up, since the process was stopped (SIGSTOP, a frozen container), or a handler held
# the loop.
LATE_SECONDS = 0.1

# The maximum number of late checks in a row that excuse. Where all checks are late, for want of
# CPU, limits still hold, though less precisely.
MAX_EXCUSED = 3

# Seconds that a silent connection is given before it is ended: data may have come to its socket
# that nobody has received yet.
SETTLE_SECONDS = 0.05

# How many connections are checked in a row before other tasks run: a check costs 1 to 2 µs, and one
# of 10,000 connections would hold up everybody for a hundredth of a second.
CHECKS_IN_A_ROW = 256

# Seconds between two checks of the memory in use; the share of the limit that it is brought down
# to; and how many connections are ended for that in a row: each costs its reset, and its task a
# step.
MEMORY_SECONDS = 1.0
ENOUGH = 0.9
ENDS_IN_A_ROW = 16

# The share of the memory that connections may hold: about as much again goes for what the operating
# system and the allocator need besides.
MEMORY_SHARE = 0.5


def most_held(machine: Machine) -> int:
    """The default of the option `max_memory`, in bytes."""
    return int(machine.memory() * MEMORY_SHARE)


class Punctuality:
    """Whether checks come when they should."""

    def __init__(self, now: float) -> None:
        self._checked = now
        self._excused = 0

    def held_up(self, now: float, planned: float) -> float:
        """A check that was to come `planned` seconds after the last comes now. How many seconds do
        not count against those that are checked; 0: it is in time, and may judge."""
        passed, self._checked = now - self._checked, now
        if passed - planned < LATE_SECONDS or self._excused >= MAX_EXCUSED:
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
        self._ended: list[Event] = []

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work()`` until it returns, or `end` is called."""
        self._ended.append(ended := self._engine.event())
        doing = self._at_it(name, work, ended)
        self._tasks.append(self._engine.spawn_background(doing, name=name))

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def until_ended(self) -> None:
        """Wait until they have ended, after `end`."""
        for ended in self._ended:
            await ended.wait()

    async def _at_it(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], ended: Event
    ) -> None:
        try:
            await self._go_on(name, work)
        finally:
            ended.set()

    async def _go_on(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
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

    async def check_memory(self, sessions: Callable[[], Sequence[Session]], most: int) -> None:
        """Each second, see to it that `sessions` hold no more than `most` bytes together."""
        engine = self._engine
        while True:
            await engine.sleep(MEMORY_SECONDS)
            used = engine.machine.resident()
            if used is not None and used <= most:
                continue  # so they can't hold more; and to check each of them costs something
            held = 0
            costs: list[tuple[float, Session]] = []
            for number, session in enumerate(sessions(), 1):
                if session.ended is None and (its := session.connection.held):
                    held += its
                    costs.append((session.cost(), session))
                if number % CHECKS_IN_A_ROW == 0:
                    await engine.sleep(0)
            if held <= most:
                continue
            costs.sort(key=lambda each: each[0], reverse=True)
            for number, (_, session) in enumerate(costs, 1):
                if held <= most * ENOUGH:
                    break
                if session.ended is None:
                    held -= session.connection.held
                    session.end_at_once(CloseReason.MEMORY, engine.now())
                if number % ENDS_IN_A_ROW == 0:
                    await engine.sleep(0)

    async def check_times(
        self, sessions: Callable[[], Sequence[Session]], limits: TimeLimits, interval: float
    ) -> None:
        """Each `interval` of seconds, end those of `sessions` that have had their time."""
        engine = self._engine
        punctuality = Punctuality(engine.now())
        while True:
            await engine.sleep(interval)
            held_up = punctuality.held_up(engine.now(), interval)
            silent: list[Session] = []
            for number, session in enumerate(sessions(), 1):
                now = engine.now()
                if held_up:
                    session.excuse(held_up, now)
                elif session.is_silent(now, limits):
                    silent.append(session)
                else:
                    session.check(now, limits)
                if number % CHECKS_IN_A_ROW == 0:
                    await engine.sleep(0)
            if not silent:
                continue
            began = engine.now()
            await engine.sleep(SETTLE_SECONDS)
            if engine.now() - began - SETTLE_SECONDS < LATE_SECONDS:
                for session in silent:
                    session.check(engine.now(), limits)
