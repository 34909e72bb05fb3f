"""The end of a server: it is told to end, and drains."""

from __future__ import annotations

from anysock.engines.base import Engine, Event
from anysock.engines.current import current_engine
from anysock.errors import UsageError
from anysock.net.printable import printable
from anysock.options.serve import ServeOptions
from anysock.server.lifespan import Lifetime
from anysock.server.phase import Life, Phase
from anysock.server.process import OwnProcess
from anysock.server.traffic import CHECK_SECONDS, REPORT_SECONDS, Traffic
from anysock.streams.connection import Connection
from anysock.telemetry.events import CloseReason, Events

# Seconds that handlers have to clean up once their connection was aborted.
CLEAN_UP_SECONDS = 0.75


class Ending:
    """How a `Server` ends: the half of it that is about its end."""

    options: ServeOptions
    events: Events
    process: OwnProcess
    traffic: Traffic
    _engine: Engine | None
    _ended: Event | None
    _life: Life
    _lifetime: Lifetime
    # Whose handlers did not end when they were aborted.
    _left: list[str]
    # By when the drain is to be over, by the engine's clock.
    _ends_at: float | None

    def _enter_engine(self) -> Engine:
        """The engine that the caller runs under is the server's, from the first call on."""
        if self._engine is None:
            engine = current_engine()
            self._ended = engine.event()
            self._engine = engine
        return self._engine

    @property
    def aborted(self) -> int:
        """How many connections had to be aborted when the server drained."""
        return self.traffic.sessions.aborted

    def request_end(self) -> None:
        """Tell the server to end, as SIGTERM does (with the option `drain_delay`), and return at
        once. May be called from any thread, and again. With workers, all of them end.

        Raises `UsageError` when the server has not started.
        """
        if self._engine is None:
            raise UsageError("the server has not started, and so can't be told to end")
        if self._life.phase.told_to_end:
            return
        if self.process.asks_to_end is not None:
            self.process.asks_to_end()
            return
        engine = self._engine
        engine.call_from_thread(lambda: engine.spawn_background(self.end(), name="drain"))

    async def end(self) -> int:
        """Be not ready for as long as the option `drain_delay` says, then `drain`.

        Both together take no longer than the option `drain_timeout` says. Called again, it waits
        for the first call to finish: a load balancer that was promised the delay has all of it.
        Called by a handler, it returns at once, as `drain` does.
        """
        engine = self._enter_engine()
        began = engine.now()
        if self._called_by_a_handler():
            engine.spawn_background(self.end(), name="drain")
            return self.aborted
        if self._life.advance(Phase.LEAVING):
            if delay := self.options.drain_delay:
                self.events.drain_delayed(delay)
                await engine.sleep(delay)
        elif self._life.phase is Phase.LEAVING:
            await self._until_ended()
            return self.aborted
        return await self.drain(began + self.options.drain_timeout - engine.now())

    async def retire(self) -> int:
        """Stop listening, and let the connections come to their own end; after as long as the
        option `reload_timeout` says, `drain`. For workers, whose successors listen already. Called
        by a handler, it returns at once, as `drain` does.

        :meta private:
        """
        engine = self._enter_engine()
        if self._called_by_a_handler():
            engine.spawn_background(self.retire(), name="retire")
            return self.aborted
        if self._life.advance(Phase.RETIRING):
            deadline = engine.now() + self.options.reload_timeout
            self.traffic.stop_listening()
            while self.traffic.busy and self._life.phase is Phase.RETIRING:
                left = deadline - engine.now()
                if left <= 0:
                    break
                await self.traffic.until_gone(engine, min(left, REPORT_SECONDS))
        return await self.drain()

    async def drain(self, timeout: float | None = None) -> int:
        """Stop listening at once; end the connections, and return how many had to be aborted.

        A connection at rest (its handler waits in `recv`, and nothing has moved for 0.25 s) gets
        the end of its stream, so that the handler comes to its own end. The others go on. All
        share one deadline, `timeout` seconds from now (None: the option `drain_timeout`). The
        connections that are left then are aborted: the peer gets a reset, the handler a
        cancellation. A handler that has not ended 0.75 s after that is left behind: it may still
        run when this returns. Called again, it waits for the first call to finish.

        Called by a handler, it does not wait for that one's own end: it begins the drain, and
        returns at once. (A task that the handler waits for should do so in a task of its own, with
        `anysock.spawn`; else all wait for each other until the deadline.)
        """
        engine = self._enter_engine()
        if self._called_by_a_handler():
            if not self._life.phase.draining:
                engine.spawn_background(self.drain(timeout), name="drain")
            return self.aborted
        if not self._life.advance(Phase.DRAINING):
            await self._until_ended()
            return self.aborted
        self._lifetime.give_up()
        try:
            return await self._drain(engine, timeout)
        except BaseException:
            # Given up: then for all, so that nobody waits for it for ever.
            self._turn_away()
            self.traffic.sessions.abort_late()
            raise
        finally:
            self._end_traffic()

    def _end_traffic(self) -> None:
        self.traffic.close()
        self._life.advance(Phase.ENDED)
        assert self._ended is not None
        self._ended.set()

    async def _drain(self, engine: Engine, timeout: float | None) -> int:
        traffic, began = self.traffic, engine.now()
        seconds = self.options.drain_timeout if timeout is None else timeout
        self.process.drain_begins(seconds)
        self._ends_at = began + seconds
        traffic.stop_listening()
        # (Where the engine does one thing at a time, there is no such task: the acceptor is what
        # called the handler that runs.)
        async with engine.scope(min(seconds, CHECK_SECONDS)):
            await traffic.until_accepted()
        traffic.tell_of_drain()
        self.events.drain_begun(len(traffic.sessions), seconds)
        await traffic.end_idle(engine, self.events, began, seconds)
        # Now the peers that still wait for room are let go, and nobody comes in any more.
        self._turn_away()
        await traffic.until_accepted()
        if traffic.sessions.abort_late():
            await traffic.until_gone(engine, CLEAN_UP_SECONDS)
        # The end of these is told now, since the server ends without them.
        left = traffic.sessions.all()
        self._left = [handler_for(session.connection) for session in left]
        for session in left:
            session.account_for(CloseReason.ABORTED, None)
        self.events.drained(self.aborted, engine.now() - began)
        if self._left:
            self.process.drain_left_handlers()
        return self.aborted

    def _called_by_a_handler(self) -> bool:
        return self.traffic.sessions.is_handled_by(self._enter_engine().current_task())

    def _turn_away(self) -> None:
        """From now on nobody comes in."""
        self._life.advance(Phase.CLOSING)
        self.traffic.turn_away()

    async def _until_ended(self) -> None:
        assert self._ended is not None
        await self._ended.wait()


def handler_for(connection: Connection) -> str:
    # As the log has it, so that one search finds one client.
    return f"the handler for {printable(str(connection.peer))}"
