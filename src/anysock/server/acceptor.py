"""Accepting: one task for each listener, which no error ends but a final one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anysock.engines.base import Binding, Engine, Listener, Stream, Task
from anysock.errors import ListenerClosed
from anysock.server.accept_policy import (
    BACK_OFF_SECONDS,
    LOG_INTERVAL_SECONDS,
    AcceptAction,
    OncePer,
    decide,
)
from anysock.server.session import Desk, Session
from anysock.streams.connection import Connection
from anysock.telemetry.events import Events

# How many peers are accepted in a row before other tasks run.
ACCEPT_BATCH = 16


class AcceptFailures:
    """Reports what fails in accepting, for all listeners of a server together: at most once a
    second, and with a descriptor kept back for the report, should that be what is missing."""

    def __init__(self, engine: Engine, events: Events) -> None:
        self._engine = engine
        self._events = events
        self._log = OncePer(LOG_INTERVAL_SECONDS)
        self._reserve = engine.machine.reserve_descriptor()

    def report(self, error: Exception) -> None:
        left_out = self._log.allow(self._engine.now())
        if left_out is not None:
            with self._reserve.spent():
                self._events.accept_failed(error, left_out)

    def close(self) -> None:
        """Give the descriptor back. Safe to call again."""
        self._reserve.close()


class Acceptor:
    """Accepts what comes to one listener. `stop` is called with the error when that is broken."""

    def __init__(
        self,
        listener: Listener,
        desk: Desk,
        failures: AcceptFailures,
        stop: Callable[[Exception], object],
    ) -> None:
        self.listener = listener
        self._desk = desk
        self._failures = failures
        self._stop = stop
        self._began = False
        # Where the engine does one thing at a time, there is none before all is over.
        self._task: Task[Any] | None = None
        self._ended = desk.engine.event()

    def start(self) -> None:
        """Accept from now on. Where the engine does one thing at a time, this returns when the
        listener is closed."""
        self._began = True
        self._task = self._desk.engine.spawn(self.run(), name="accept")

    @property
    def done(self) -> bool:
        """Whether it accepts nobody any more, or has not begun."""
        if self._task is None:
            return not self._began or self._ended.is_set()
        return self._task.done

    async def join(self) -> None:
        """Wait until the backlog of a closed listener is accepted; but not where the engine does
        one thing at a time: there, this is what has called the handler that runs."""
        if self._task is not None:
            await self.until_done()

    async def until_done(self) -> None:
        """Wait until it accepts nobody any more; and where the engine does one thing at a time,
        until the connection that it serves has ended."""
        if not self.done:
            await self._ended.wait()

    async def run(self) -> None:
        """Accept until the listener is closed. An error never ends this, unless it is final."""
        try:
            await self._accept()
        finally:
            self._ended.set()

    async def _accept(self) -> None:
        engine, gate, listener = self._desk.engine, self._desk.gate, self.listener
        accepted = 0
        while True:
            try:
                waited = not gate.has_room and await gate.until_room(listener)
                stream = await engine.accept(listener)
            except ListenerClosed:
                return
            except Exception as error:  # noqa: BLE001
                action = decide(error)
                if action is AcceptAction.STOP:
                    self._desk.events.accept_error(error)
                    self._stop(error)
                    return
                # The peer waits in the backlog, and is served once there is room again.
                await self._after_failure(error, back_off=action is AcceptAction.BACK_OFF)
            else:
                try:
                    await self._admit(stream, listener.binding, waited)
                except Exception as error:  # noqa: BLE001
                    await self._after_failure(error)
            accepted += 1
            if accepted % ACCEPT_BATCH == 0:
                await engine.sleep(0)

    async def _admit(self, stream: Stream, binding: Binding, waited: bool) -> None:
        """Start serving a peer that was accepted. Raises whatever goes wrong; then it is closed."""
        try:
            connection = Connection(stream, self._desk.server)
            session = Session(connection, self._desk, self._desk.engine.now())
        except BaseException:
            # Nobody else would close it.
            stream.abort()
            await stream.close()
            raise
        await session.enter(binding, waited)

    async def _after_failure(self, error: Exception, *, back_off: bool = True) -> None:
        """Whatever has failed in accepting one, the next is accepted."""
        self._desk.events.accept_error(error)
        if back_off:
            self._failures.report(error)
            await self._desk.engine.sleep(BACK_OFF_SECONDS)
