"""`Server`: listen, serve, drain. The same under every engine.

Server                  its face, and its life: see `anysock.server.phase`; how it ends is `Ending`
  ├─ Lifetime           its lifespan, and its background tasks
  └─ Traffic            what it has once it listens
       ├─ Acceptor      one a listener: accept, and decide what an error means
       │    └─ Session  one a connection: admit it, greet it, run the handler, part
       ├─ UdpService    the sockets of udp:// addresses
       └─ Housekeeping  periodic checks: has a connection had too much time, or too much memory?
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, Unpack

from anysock.engines.base import NOTHING, Engine, Event, T, Task
from anysock.engines.posix.signals import bounded_once_told, held_back
from anysock.errors import StartError, UsageError
from anysock.handlers import Handler, prepare
from anysock.options.keywords import ServeKeywords, options_of
from anysock.options.serve import ServeOptions
from anysock.server import lifespan as lifespans
from anysock.server.admission import Slots
from anysock.server.ending import CLEAN_UP_SECONDS, Ending, handler_for
from anysock.server.phase import Life, Phase
from anysock.server.process import ENDING_SIGNALS, START_SECONDS, OwnProcess, exit_without_start
from anysock.server.traffic import Traffic
from anysock.streams.connection import Connection
from anysock.streams.running import State_co
from anysock.telemetry.counters import Counters
from anysock.telemetry.events import EventGroup, Events, check_events, with_listeners
from anysock.telemetry.logs import LogEvents

# What the server's own tasks are called.
OUR_TASKS = frozenset(
    {"main", "wakeups", "drain", "retire", "accept", "limits", "handshakes", "memory", "udp"}
)

_ONCE = "a server is entered once, and this one serves already, or has ended: make another"


class Server(Ending, Generic[State_co]):
    """A TCP server: one `handler` for every connection, under any engine.

    `handler` is an ``async def handler(connection)``, or the name of a standard one (``"echo"``),
    or ``"package.module:function"``. The options are those of `ServeOptions`, as keywords, or
    an instance of it. `events` is told what happens; by default that goes to the log. `slots`
    counts connections in place of the option `max_connections`, so that several servers can share
    one limit: an object with the members of `anysock.server.admission.Slots`.

    In a program or a test that runs already, under `anysock.run` or under asyncio:

    >>> async def main():
    ...     async with Server("echo", bind="127.0.0.1:0") as server:
    ...         async with await connect(server.addresses[0]) as connection:
    ...             await connection.send_all(b"hello")
    ...             return await connection.recv()

    The block drains the server when it ends. A program that is the server calls `anysock.serve`.

    `lifespan` is what lives as long as the server: a function that is called with it, and returns
    an async context manager, or its name, ``"package.module:function"``. (None: the attribute
    ``lifespan`` of `handler`, if it has one.) It is entered when the addresses are bound, and the
    first connection is accepted after that; it is left when the last is closed. What it gives is
    the `state` of the server and of each `Connection`:

    >>> import contextlib
    >>> @contextlib.asynccontextmanager
    ... async def lifespan(server):
    ...     greeting = "hello, "
    ...     server.spawn(look_after(greeting))
    ...     try:
    ...         yield greeting
    ...     finally:
    ...         print("the last connection is closed")
    >>> async def greet(connection):
    ...     await connection.send_all(connection.state.encode() + await connection.recv_line())
    >>> server = Server(greet, lifespan=lifespan)

    If its start fails, so does that of the server. If the server is told to end while it starts, it
    is cancelled. When the task that runs the server is cancelled, the connections are drained, and
    then the cancellation is raised at its ``yield``.
    """

    def __init__(
        self,
        handler: Handler[State_co] | str,
        options: ServeOptions | None = None,
        *,
        lifespan: Lifespan[State_co] | str | None = None,
        events: Events | None = None,
        slots: Slots | None = None,
        **keywords: Unpack[ServeKeywords],
    ) -> None:
        self.options = options_of(options, keywords)
        check_events(events)
        self.handler = prepare(handler, self.options)
        self._lifetime = lifespans.Lifetime(lifespans.prepare(lifespan, handler))
        self.counters = Counters()
        self.events: Events = EventGroup(self.counters, events or LogEvents.of(self.options))
        #: Where the process is the server: its signals, and what ends it in any case.
        #:
        #: :meta private:
        self.process = OwnProcess(self._what_is_left)
        self._engine: Engine | None = None
        self._ended: Event | None = None
        self._life = Life()
        name = handler if isinstance(handler, str) else None
        #: What listens and is open. For workers.
        #:
        #: :meta private:
        self.traffic = Traffic(
            self,
            self.handler,
            name,
            self.options,
            life=self._life,
            process=self.process,
            slots=slots,
        )
        # By when the drain is to be over, by the engine's clock.
        self._ends_at: float | None = None
        # What has broken a listener; and whose handlers did not end when they were aborted.
        self._failure: Exception | None = None
        self._left: list[str] = []
        self._most = 0

    # -- the life of a server ------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen. Connections wait in the backlog until `serve_forever` accepts them,
        which runs the lifespan first. Called again before that, it does nothing.

        Raises RuntimeError when the server serves already, or has ended; `StartError` when an
        address is in use, not ours, or not allowed, or a certificate can't be used; `UsageError`
        when the engine cannot do what was asked.
        """
        if self._life.claimed:
            raise RuntimeError(_ONCE)
        await self._start()

    async def _start(self) -> None:
        engine = self._enter_engine()
        if self._life.phase is not Phase.NEW:
            return  # a signal came before we had begun, or somebody has begun already
        events = self.events = with_listeners(engine, self.events)
        most = self.traffic.open(engine, events, self._broken)
        self._most = most
        if not self._life.advance(Phase.STARTING):
            # Where waiting means to sleep, a signal may have come meanwhile, on another thread.
            self.traffic.stop_listening()
            self.traffic.close()
        elif not self._lifetime.wanted:
            await self._begin_life()

    async def _begin_life(self) -> None:
        """Run the lifespan to its ``yield``; then the server is ready."""
        engine, events = self._enter_engine(), self.events
        try:
            await self._lifetime.begin(engine, self, events)
        except BaseException:
            if self._life.advance(Phase.DRAINING):
                self.traffic.stop_listening()
                self._turn_away()
                self._end_traffic()
            raise
        if self._life.advance(Phase.LISTENING):
            events.listening(self.addresses, engine.name)
            self._tell_doubts()
            if self._most:
                events.most_connections(self._most, self.options.max_connections is None)

    @property
    def addresses(self) -> list[str]:
        """The addresses that the server listens on, such as ``tcp://127.0.0.1:8000``."""
        return self.traffic.addresses

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open now."""
        return [session.connection for session in self.traffic.sessions.all()]

    @property
    def state(self) -> State_co:
        """What the lifespan has given; None where there is none, and before it has started."""
        return self._lifetime.state  # type: ignore[no-any-return]

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> Task[T]:
        """Run `coro` as a task that ends with the server: it is cancelled, and waited for, when the
        connections are drained and before the lifespan ends. It has what is left of the option
        `drain_timeout` to clean up, and 0.75 s at least.

        For the lifespan and for handlers: unlike a task of `anysock.spawn`, it belongs to no
        connection. One that fails, and that no task is joining, is reported in the log at once, and
        the server goes on. Under `blocking` it runs on a thread of its own.

        Raises `UsageError` when the server has not started, or has ended.
        """
        return self._lifetime.spawn(coro, name)

    @property
    def paused(self) -> bool:
        """Whether accepting is paused; see `pause`."""
        return self._life.paused

    @property
    def ending(self) -> bool:
        """Whether the server has been told to end: by `drain`, or by a signal that will lead
        there."""
        return self._life.phase.told_to_end

    async def serve_forever(self) -> None:
        """Accept and serve, until `drain` is called and has come to its end. When it is cancelled,
        it drains the server first, as the end of an ``async with`` block does.

        Raises RuntimeError when the server serves already, or has ended: a server lives once; what
        `start` raises; `StartError` when the start of the lifespan fails, and `LifespanFailed` when
        it fails later; and OSError when a listening socket breaks, after the rest is drained.
        """
        await self.enter()
        await self.serve_entered()

    async def enter(self) -> None:
        """Do the first half of `serve_forever`: all but to accept.

        :meta private:
        """
        if not self._life.claim():
            raise RuntimeError(_ONCE)
        await self._start()
        if self._lifetime.wanted and self._life.phase is Phase.STARTING:
            await self._begin_life()

    async def serve_entered(self) -> None:
        """Do the second half of `serve_forever`.

        :meta private:
        """
        error: BaseException | None = None
        try:
            self.traffic.begin(self._enter_engine(), self.events)
            await self.traffic.until_accepted()
            await self._until_ended()
            error = self._failure
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self._leave(error)
        if error is not None:
            raise error

    async def _leave(self, error: BaseException | None) -> None:
        """Drain the connections; then end what has lived around them."""
        engine = self._enter_engine()
        try:
            with engine.past_cancellations():
                await self.drain()
                await self.traffic.until_accepted()
                await self.traffic.until_closed(engine, CLEAN_UP_SECONDS)
        except BaseException as raised:
            error = raised
            # The drain was given up, and all were aborted. They are not left behind.
            with engine.past_cancellations():
                await self.traffic.until_gone(engine, CLEAN_UP_SECONDS)
                await self.traffic.until_closed(engine, CLEAN_UP_SECONDS)
            raise
        finally:
            left = 0.0 if self._ends_at is None else self._ends_at - engine.now()
            left = max(left, CLEAN_UP_SECONDS)
            with engine.past_cancellations():
                await self._lifetime.end(engine, left, error, self.events)

    async def __aenter__(self) -> Self:
        engine = self._enter_engine()
        if not engine.concurrent:
            raise UsageError(
                f"the engine {engine.name!r} does one thing at a time, so it can't serve "
                "in the background: use serve_forever(), or another engine"
            )
        await self.enter()
        self.traffic.begin(self._enter_engine(), self.events)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave(error)

    async def serve_until_signal(self) -> None:
        """`serve_forever`, and drain at the first SIGINT or SIGTERM, after the option
        `drain_delay`. A second one ends the process at once, with exit code 1. SIGHUP leads to
        `reload`. What was ignored before stays so. To be called on the main thread."""
        # Before it says that it is ready: from then on, a signal means a drain.
        reload = {int(signal.SIGHUP): lambda _signum: self.reload()}
        with held_back(ENDING_SIGNALS) as let_come, self.signals(ENDING_SIGNALS, reload):
            with bounded_once_told(ENDING_SIGNALS, START_SECONDS, exit_without_start):
                let_come()
                await self.enter()
            await self.serve_entered()

    @contextlib.contextmanager
    def signals(
        self, signals: Sequence[int], others: Mapping[int, Callable[[int], None]] = NOTHING
    ) -> Iterator[None]:
        """Within the block, the first of `signals` leads to `end`, and a second one ends the
        process at once; each of `others` calls its function. To be entered on the main thread.

        The process is the server: if the block has not come to its end a second after the deadline
        of the drain, since a handler swallows its cancellation, say, or never lets others run, the
        log names what is left, and the process exits with code 1.
        """
        engine = self._enter_engine()

        def end(_signum: int) -> None:
            engine.spawn(self.end(), name="drain")

        with self.process.signals(engine, signals, end, self.options.drain_timeout, others):
            yield

    def _what_is_left(self) -> list[str]:
        """What has not ended, in words for the log."""
        left = self._left or [handler_for(each) for each in self.connections]
        if self._lifetime.doing:
            left = [*left, self._lifetime.doing]
        if not left and self._engine is not None:
            names = [*self._engine.left, *self._engine.living()]
            left = [f"the task {name!r}" for name in names if name not in OUR_TASKS]
        return left

    def reload(self) -> None:
        """Read the certificates again, for the connections to come. Those that are open notice
        nothing. To be called where tasks run.

        When something is wrong with them, the old ones stay, and an event says so.
        """
        self.events.reload_begun()
        if self.traffic.certificates is not None:
            try:
                self.traffic.certificates.reload()
            except (StartError, OSError, MemoryError) as error:
                self.events.reload_failed(error)
                return
            self._tell_doubts()
        self.events.reloaded()

    def _tell_doubts(self) -> None:
        if self.traffic.certificates is not None:
            for doubt in self.traffic.certificates.doubts:
                self.events.certificate_doubtful(doubt)

    def pause(self) -> None:
        """Accept nobody until `resume`. New connections wait in the backlog (one may be accepted
        that was waited for already, and waits with us). May be called from any thread."""
        if self._life.set_paused(True):
            self.events.accepting_paused()

    def resume(self) -> None:
        """Accept again. May be called from any thread."""
        if self._life.set_paused(False):
            self.events.accepting_resumed()
            # Before the start nobody waits; nor when the server has drained, and its loop is over.
            if self._engine is not None and not self._life.phase.draining:
                self._engine.call_from_thread(self.traffic.notify)

    @property
    def unready(self) -> str | None:
        """Why the server should be sent no more clients; None: it is ready for them."""
        if self.ending:
            return "draining"
        if self._life.phase is Phase.NEW:
            return "not listening yet"
        if self._life.phase is Phase.STARTING:
            return "starting"
        return "accepting is paused" if self.paused else None

    def _broken(self, error: Exception) -> None:
        """A listener is broken: the rest is drained."""
        self._failure = error
        self._enter_engine().spawn(self.drain(), name="drain")


#: A lifespan: called with the server, it returns an async context manager, which gives the state.
Lifespan: TypeAlias = Callable[[Server[Any]], AbstractAsyncContextManager[State_co]]
