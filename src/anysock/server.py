"""`Server`: listen, accept, supervise, drain. The same under every engine.

serve_forever
  ├─ _accept_clients      one a listener: accept, and decide what an error means
  │    └─ _serve_client   one a connection: run the handler, account for how it ended, close
  └─ drain                stop listening, let the busy finish, end the quiet, abort the late
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from anysock.connection import Connection
from anysock.engines import make_engine
from anysock.engines.base import Engine, Listener, Stream, Task
from anysock.engines.current import current_engine
from anysock.errors import ListenerClosed, StreamAborted, UsageError
from anysock.events import CloseReason, Counters, Events
from anysock.handlers import Handler, load_handler
from anysock.logs import LogEvents, configure_logging, has_handlers
from anysock.net.accept_policy import (
    BACK_OFF_SECONDS,
    LOG_INTERVAL_SECONDS,
    AcceptAction,
    OncePer,
    ReserveDescriptor,
    decide,
)
from anysock.net.addresses import explain_bind_error, format_sockaddr, resolve
from anysock.net.faults import FailOnLine
from anysock.net.tracing import TracingStream
from anysock.options import ServeOptions

# A connection that waits for its peer, and has moved no byte for so long, is at rest: when the
# server drains, it is ended. Long enough for a client that is in the middle of something.
QUIET_SECONDS = 0.25

# How often a drain looks at its connections.
LOOK_SECONDS = 0.05

# How long handlers may take to clean up once their connection was aborted.
CLEAN_UP_SECONDS = 1.0

# How often the connections are looked at in the time that one may be idle.
SWEEPS = 8

# How many peers are accepted in a row before the others get their turn.
ACCEPT_BATCH = 64


class Server:
    """A TCP server: one `handler` for every connection, under any engine.

    `handler` is an ``async def handler(connection)``, or the name of a standard one (``"echo"``),
    or ``"package.module:function"``. The options are those of `ServeOptions`, as keywords, or
    an instance of it. `events` is told what happens; by default that goes to the log.

    In a program or a test that runs already, under `anysock.run` or under asyncio:

    >>> async def main():
    ...     async with Server("echo", bind="127.0.0.1:0") as server:
    ...         async with await connect(server.addresses[0]) as connection:
    ...             await connection.send_all(b"hello")
    ...             return await connection.recv()

    The block drains the server when it ends. A program that is the server calls `anysock.serve`.
    """

    def __init__(
        self,
        handler: Handler | str,
        options: ServeOptions | None = None,
        *,
        events: Events | None = None,
        **keywords: Any,
    ) -> None:
        if options is not None and keywords:
            raise TypeError("give ServeOptions or keywords, not both")
        self.options = options or ServeOptions(**keywords)
        self.handler = load_handler(handler, self.options) if isinstance(handler, str) else handler
        self.events = events or LogEvents()
        self.counters = Counters()
        #: How many connections had to be aborted when the server drained.
        self.aborted = 0
        self._engine: Engine | None = None
        self._reserve: ReserveDescriptor | None = None
        self._listeners: Sequence[Listener] = ()
        self._clients: dict[Connection, _Client] = {}
        self._acceptors: list[Task] = []
        self._sweeper: Task | None = None
        self._failure: OSError | None = None
        self._draining = False
        self._accept_log = OncePer(LOG_INTERVAL_SECONDS)

    # -- the life of a server ------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen. Connections wait in the backlog until `serve_forever` accepts them.

        Raises `StartError` when an address is in use, not ours, or not allowed; `UsageError`
        when the engine cannot do what was asked.
        """
        engine = self._enter_engine()
        if self.options.idle_timeout is not None and not engine.concurrent:
            raise UsageError(
                f"--idle-timeout: the engine {engine.name!r} does one thing at a time, and can't "
                "look after a client while it waits for it; use another engine"
            )
        if self._draining:
            return  # a signal came before we had begun
        wanted = [resolve(address, passive=True) for address in self.options.addresses]
        try:
            self._listeners = engine.listen(
                wanted, self.options.backlog, self.options.socket_buffer
            )
        except OSError as error:
            raise explain_bind_error(error) from None
        self._reserve = ReserveDescriptor()
        self.events.listening(self.addresses, engine.name)

    def _enter_engine(self) -> Engine:
        """The engine that the caller runs under is the server's, from the first call on."""
        if self._engine is None:
            self._engine = current_engine()
            self._all_gone = self._engine.event()
            self._drained = self._engine.event()
        return self._engine

    @property
    def addresses(self) -> list[str]:
        """The addresses that the server listens on, such as ``tcp://127.0.0.1:8000``."""
        return [
            format_sockaddr(address)
            for listener in self._listeners
            for address in listener.addresses
        ]

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open now."""
        return list(self._clients)

    async def serve_forever(self) -> None:
        """Accept and serve, until `drain` is called and has come to its end.

        Raises OSError when a listening socket breaks; then the rest is drained first.
        """
        if not self._listeners:
            await self.start()
        self._accept_in_background()
        for acceptor in self._acceptors:
            await acceptor.join()
        await self._drained.wait()
        if self._failure is not None:
            raise self._failure

    async def serve_until_signal(self) -> None:
        """`serve_forever`, and drain at the first SIGINT or SIGTERM. A second one ends the
        process at once, with exit code 1. To be called on the main thread."""
        engine = self._enter_engine()

        def drain(_signum: int) -> None:
            engine.spawn(self.drain(), name="drain")

        # Before the server says that it is ready: from then on, a signal means a drain.
        with engine.watch_signals((signal.SIGINT, signal.SIGTERM), drain, _exit_at_once):
            await self.serve_forever()

    async def drain(self, timeout: float | None = None) -> int:
        """Stop listening at once; end the connections, and return how many had to be aborted.

        A connection at rest (its handler waits in `recv`, and nothing has moved for 0.25 s) gets
        the end of its stream, so that the handler comes to its own end. The others go on. All
        share one deadline, `timeout` seconds from now (None: the option `drain_timeout`); who is
        left then is aborted. Called again, it waits for the first call to finish.
        """
        if self._draining:
            await self._drained.wait()
            return self.aborted
        self._draining = True
        engine = self._enter_engine()
        began = engine.now()
        seconds = self.options.drain_timeout if timeout is None else timeout
        for listener in self._listeners:
            listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        # Whoever was connected already is still accepted. (Where the engine does one thing at a
        # time, this list is empty: the acceptor is what called the handler that runs.)
        for acceptor in self._acceptors:
            await acceptor.join()
        self.events.drain_begun(len(self._clients), seconds)

        while self._clients and (left := began + seconds - engine.now()) > 0:
            for connection, client in list(self._clients.items()):
                connection.draining = True
                client.rest(engine.now())
            await self._until_all_gone(min(left, LOOK_SECONDS))

        late = list(self._clients.values())
        self.aborted = len(late)
        for client in late:
            client.abort()
        if late:
            await self._until_all_gone(CLEAN_UP_SECONDS)
        if self._reserve is not None:
            self._reserve.close()
        self.events.drained(self.aborted, engine.now() - began)
        self._drained.set()
        return self.aborted

    async def __aenter__(self) -> Self:
        engine = self._enter_engine()
        if not engine.concurrent:
            raise UsageError(
                f"the engine {engine.name!r} does one thing at a time, so it can't serve "
                "in the background: use serve_forever(), or another engine"
            )
        await self.start()
        self._accept_in_background()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.drain()
        for acceptor in self._acceptors:
            await acceptor.join()

    # -- accepting -----------------------------------------------------------------------------

    def _accept_in_background(self) -> None:
        # Where the engine does one thing at a time, there is one listener, and this returns when
        # it is closed.
        engine = self._enter_engine()
        for listener in self._listeners:
            task = engine.spawn(self._accept_clients(listener), name="accept")
            self._acceptors.append(task)
        if self.options.idle_timeout is not None:
            self._sweeper = engine.spawn(self._sweep(self.options.idle_timeout), name="sweeper")

    async def _accept_clients(self, listener: Listener) -> None:
        """Accept until the listener is closed. An error never ends this, unless it is final."""
        engine = self._enter_engine()
        batch = 0
        while True:
            try:
                stream = await engine.accept(listener)
                await self._admit(stream)
            except ListenerClosed:
                return
            except OSError as error:
                self.counters.accept_error()
                action = decide(error)
                if action is AcceptAction.BACK_OFF:
                    self._tell_accept_failed(error)
                    # The peer waits in the backlog, and is served once there is room again.
                    await engine.sleep(BACK_OFF_SECONDS)
                elif action is AcceptAction.STOP:
                    self._failure = error
                    engine.spawn(self.drain(), name="drain")
                    return
            batch += 1
            if batch % ACCEPT_BATCH == 0:
                await engine.sleep(0)

    def _tell_accept_failed(self, error: OSError) -> None:
        left_out = self._accept_log.allow(self._enter_engine().now())
        if left_out is not None:
            assert self._reserve is not None
            # Telling may need a descriptor, and there is none left but the one kept for this.
            with self._reserve.spent():
                self.events.accept_failed(error, left_out)

    async def _admit(self, stream: Stream) -> None:
        """Start serving a peer that was accepted.

        Raises OSError when there is no room for one more (no thread can be started); then the
        peer, which we can't put back into the backlog, gets a reset.
        """
        options = self.options
        if options.recv_size is not None:
            stream.set_recv_size(options.recv_size)
        if options.verbose:
            stream = TracingStream(stream)
        if options.fail_on is not None:
            stream = FailOnLine(stream, options.fail_on)
        connection = Connection(stream)
        client = self._clients[connection] = _Client(connection)
        self.counters.opened()
        self.events.connection_opened(connection)
        try:
            self._enter_engine().spawn(self._serve_client(client), name=f"client {connection.peer}")
        except OSError:
            connection.abort()
            await self._part_with(client, CloseReason.ABORTED, None)
            raise

    # -- supervising ---------------------------------------------------------------------------

    async def _serve_client(self, client: _Client) -> None:
        """Run the handler for one connection. Whatever it does, this accounts for it, and closes.

        A handler that raises is reported, with its traceback, and its client sees the end of the
        stream; nobody else notices. A peer that is gone is no failure.
        """
        connection, events = client.connection, self.events
        stream = connection.stream
        client.task = self._enter_engine().current_task()
        reason = CloseReason.ABORTED
        lost: OSError | None = None
        try:
            await self.handler(connection)
            reason = client.how_it_ended()
        except Exception as error:  # noqa: BLE001
            if _is_loss_of(stream, error):
                lost = stream.lost
                aborted = isinstance(lost, StreamAborted)
                reason = CloseReason.ABORTED if aborted else CloseReason.LOST
            else:
                reason = CloseReason.FAILED
                events.handler_failed(connection, error)
        finally:
            if reason is CloseReason.ABORTED and client.ended is CloseReason.IDLE:
                reason = CloseReason.IDLE
            await self._part_with(client, reason, lost)

    async def _part_with(self, client: _Client, reason: CloseReason, lost: OSError | None) -> None:
        """Close a connection, and forget it. The one place where that is done."""
        connection = client.connection
        try:
            await connection.close()
        finally:
            del self._clients[connection]
            self.counters.ended(connection, reason)
            self.events.connection_closed(connection, reason, lost)
            if self._draining and not self._clients:
                self._all_gone.set()

    async def _sweep(self, seconds: float) -> None:
        """End the connections on which nothing has moved for `seconds`.

        All are looked at now and then, by the counters that they keep anyway: a timer, set and
        cancelled for each message, would cost more than all the rest that we do for it.
        """
        engine = self._enter_engine()
        while True:
            await engine.sleep(seconds / SWEEPS)
            now = engine.now()
            for client in list(self._clients.values()):
                if client.quiet_for(now) >= seconds:
                    client.end_idle(now)

    async def _until_all_gone(self, seconds: float) -> None:
        """Wait until no connection is left, but no longer than `seconds`."""
        engine = self._enter_engine()
        # A new one each time: there may have been none left before the last of the backlog was
        # accepted. And made before the look, since the last may go at any moment.
        self._all_gone = engine.event()
        if self._clients:
            async with engine.scope(seconds):
                await self._all_gone.wait()


class _Client:
    """What the server keeps of a connection, besides the connection."""

    __slots__ = ("connection", "ended", "moved", "moved_at", "task")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.task: Task | None = None
        #: Why we have ended it, if we have.
        self.ended: CloseReason | None = None
        self.moved = -1
        self.moved_at = 0.0

    def quiet_for(self, now: float) -> float:
        """For how long nothing has moved, in seconds, as far as the looks so far can tell.

        Looking at the byte counters now and then costs the traffic nothing, where a clock read
        at every message would.
        """
        stream = self.connection.stream
        moved = stream.bytes_received + stream.bytes_sent
        if moved != self.moved:
            self.moved, self.moved_at = moved, now
        return now - self.moved_at

    def rest(self, now: float) -> None:
        """The server drains: end the connection if it has been at rest for long enough."""
        stream = self.connection.stream
        if stream.sending or not stream.receiving:
            self.moved = -1  # not at rest: the time counts from the next look
        if self.quiet_for(now) >= QUIET_SECONDS and self.ended is None:
            self.ended = CloseReason.DRAINED
            stream.end_receiving()

    def end_idle(self, now: float) -> None:
        """Nothing has moved for too long. The handler gets the end of the stream; one that has not
        come to its end when the time is up again, or waits to send, is aborted."""
        if self.ended is None and not self.connection.stream.sending:
            self.ended = CloseReason.IDLE
            self.moved_at = now
            self.connection.stream.end_receiving()
        else:
            self.ended = CloseReason.IDLE
            self.abort()

    def abort(self) -> None:
        self.connection.abort()
        if self.task is not None:
            self.task.cancel()

    def how_it_ended(self) -> CloseReason:
        """Why the connection ended, when its handler has returned."""
        if self.ended is not None:
            return self.ended
        if self.connection.bytes_received == self.connection.bytes_sent == 0:
            return CloseReason.NO_DATA
        return CloseReason.DONE


def _exit_at_once(signum: int) -> None:
    """A second signal: end the process now, even if a handler holds it up."""
    # Not through the log: the signal may have interrupted somebody in the middle of a line.
    os.write(2, f"a second signal, {signal.Signals(signum).name}: exiting at once\n".encode())
    os._exit(1)


def serve(
    handler: Handler | str,
    options: ServeOptions | None = None,
    *,
    events: Events | None = None,
    **keywords: Any,
) -> int:
    """Run a server until SIGINT or SIGTERM has drained it. Takes what `Server` takes.

    Returns how many connections had to be aborted: 0 when all came to their end. Where the program
    has configured no logging, this does, with the options `log_level` and `log_format`.

    Raises `UsageError` and `StartError`, whose messages say what to do, and OSError when a
    listening socket breaks while the server runs.

    >>> async def shout(connection):
    ...     async for line in connection.lines():
    ...         await connection.send_all(line.upper())
    >>> serve(shout, bind="127.0.0.1:8000")  # doctest: +SKIP
    """
    server = Server(handler, options, events=events, **keywords)
    if not has_handlers():
        configure_logging(server.options.log_level, server.options.log_format)
    on_main_thread = threading.current_thread() is threading.main_thread()
    engine: Engine = make_engine(server.options.engine)
    if server.options.slow_step:
        engine.watch_steps(server.options.slow_step)
    engine.run(server.serve_until_signal() if on_main_thread else server.serve_forever())
    sys.stderr.flush()
    return server.aborted


def _is_loss_of(stream: Stream, error: Exception) -> bool:
    """Whether `error` says no more than that the peer is gone.

    A handler with a task group has several tasks that meet that, each with an error of its own.
    """
    if stream.lost is None or error is stream.lost or not isinstance(error, ExceptionGroup):
        return error is stream.lost
    return all(
        isinstance(each, ConnectionError) or _is_loss_of(stream, each) for each in error.exceptions
    )
