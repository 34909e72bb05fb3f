"""`Server`: listen, accept, supervise, drain. The same under every engine.

serve_forever
  ├─ _accept_clients      one a listener: accept, and decide what an error means
  │    └─ _serve_client   one a connection: prepare it, run the handler, account for its end, close
  ├─ Housekeeping         now and then: has somebody had too much time?
  └─ drain                stop listening, let the busy finish, end the quiet, abort the late

When somebody may come in is `anysock.server.gate`'s affair; who it is, and what it speaks,
`anysock.server.handshake`'s; how long one may stay, `anysock.server.session`'s.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack

from anysock import systemd
from anysock.engines.base import NOTHING, Binding, Engine, Listener, Stream, Task
from anysock.engines.current import current_engine
from anysock.engines.posix.signals import bounded_once_told, heard_at_once, held_back
from anysock.errors import AnysockError, ListenerClosed, NotServed, StartError, UsageError
from anysock.handlers import Handler, prepare
from anysock.hints import add_hint
from anysock.machine.descriptors import ReserveDescriptor
from anysock.machine.last_deadline import LastDeadline, exit_after
from anysock.machine.memory import most_for_connections
from anysock.net.addresses import Address, explain_bind_error, format_sockaddr
from anysock.net.printable import printable
from anysock.options.keywords import ServeKeywords, options_of
from anysock.options.serve import ServeOptions
from anysock.server.accept_policy import (
    BACK_OFF_SECONDS,
    LOG_INTERVAL_SECONDS,
    AcceptAction,
    OncePer,
    decide,
)
from anysock.server.admission import OwnSlots, Slots, connections_that_fit
from anysock.server.bindings import binding_here
from anysock.server.gate import Door
from anysock.server.handshake import Greeting, Refused
from anysock.server.housekeeping import Housekeeping, Punctuality
from anysock.server.session import Served, TimeLimits
from anysock.server.udp.service import HANDLERS as UDP_HANDLERS
from anysock.server.udp.service import UdpService
from anysock.server.verdicts import is_cancellation, may_be_an_interrupt, of_the_peer
from anysock.streams.connection import Connection
from anysock.telemetry.events import CloseReason, Counters, EventGroup, Events, check_events
from anysock.telemetry.logs import LogEvents, last_words

# How long a start that has been told to end may still take.
START_SECONDS = 1.0

# How often a drain looks at its connections.
LOOK_SECONDS = 0.05

# How often it tells how many are left.
TELL_SECONDS = 1.0

# How long handlers may take to clean up once their connection was aborted; how long after the
# deadline of its drain a process that is the server lives at most; and how long it may take to say
# so.
CLEAN_UP_SECONDS = 0.75
LAST_SECONDS = 1.0
SAY_SECONDS = 1.0

# How many of those that are left are named; and what the server's own tasks are called.
MOST_NAMED = 5
OUR_TASKS = frozenset(
    {"main", "wakeups", "drain", "retire", "accept", "limits", "handshakes", "memory", "udp"}
)

# How many peers are accepted in a row before the others get their turn.
ACCEPT_BATCH = 16

_ONCE = "a server is entered once, and this one serves already, or has ended: make another"


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
        slots: Slots | None = None,
        **keywords: Unpack[ServeKeywords],
    ) -> None:
        self.options = options_of(options, keywords)
        check_events(events)
        self._handler_name = handler if isinstance(handler, str) else None
        self.handler = prepare(handler, self.options)
        self.counters = Counters()
        self.events: Events = EventGroup(self.counters, events or LogEvents.of(self.options))
        #: Whether accepting is paused; see `pause`.
        self.paused = False
        #: Whether the server has been told to end: by `drain`, or by a signal that will lead there.
        self.ending = False
        #: How many connections had to be aborted when the server drained.
        self.aborted = 0
        #: Where the process is the server: what ends it when it does not come to its end; and what
        #: is to be done before, and the exit code.
        self.last: LastDeadline | None = None
        self.before_exit: Callable[[], object] = lambda: None
        self.exit_code = 1
        self._engine: Engine | None = None
        self._reserve: ReserveDescriptor | None = None
        self._listeners: Sequence[Listener] = ()
        self._slots = slots
        self._udp: UdpService | None = None
        self._limits = TimeLimits.of(self.options)
        self._clients: dict[Connection, Served] = {}
        self._acceptors: list[Task[Any]] = []
        self._failure: Exception | None = None
        # Whose handlers did not end when they were aborted.
        self._left: list[str] = []
        self._started = False
        # Whether it was entered; that can be done once.
        self._entered = False
        # Whether SIGINT is ours: then no KeyboardInterrupt comes from a Ctrl-C.
        self._catches_signals = False
        self._draining = False
        self._end_begun = False
        self._accept_log = OncePer(LOG_INTERVAL_SECONDS)

    # -- the life of a server ------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen. Connections wait in the backlog until `serve_forever` accepts them.
        Called again before that, it does nothing.

        Raises RuntimeError when the server serves already, or has ended; `StartError` when an
        address is in use, not ours, or not allowed, or a certificate can't be used; `UsageError`
        when the engine cannot do what was asked.
        """
        if self._entered:
            raise RuntimeError(_ONCE)
        await self._start()

    async def _start(self) -> None:
        engine = self._enter_engine()
        if self._draining or self._started:
            return  # a signal came before we had begun, or somebody has begun already
        options = self.options
        addresses = systemd.expand(options.addresses)
        wanted = [self._binding(each) for each in addresses if each.kind != "udp"]
        self._greeting = Greeting(engine, options, self.events, self._judge)
        if any(binding.tls for binding in wanted):
            # OpenSSL is loaded by those who need it.
            from anysock.net.certificates import Certificates

            assert options.tls_cert is not None, "ServeOptions has seen to that"
            self._greeting.certificates = Certificates(
                options.tls_cert, options.tls_key, options.tls_client_ca
            )
        self._open_udp([each for each in addresses if each.kind == "udp"])
        try:
            self._listeners = engine.listen(wanted, options.backlog, options.socket_buffer)
        except OSError as error:
            if self._udp is not None:
                self._udp.close()
            raise explain_bind_error(error) from None
        slots = self._slots or OwnSlots(
            options.max_connections or connections_that_fit(engine.machine)
        )
        self._door = Door(engine, slots, options, self.events)
        self._door.paused = self.paused
        self._reserve = ReserveDescriptor()
        self._started = True
        if self._draining:
            # Where waiting means to sleep, a signal may have come meanwhile, on another thread.
            self._door.late = True
            self._stop_listening()
            self._reserve.close()
            return
        self.events.listening(self.addresses, engine.name)
        self._tell_doubts()
        if wanted:
            self.events.most_connections(slots.most, options.max_connections is None)

    def _open_udp(self, addresses: Sequence[Address]) -> None:
        """Open the sockets of udp:// addresses."""
        if not addresses:
            return
        if self._handler_name not in UDP_HANDLERS:
            raise UsageError(
                f"{addresses[0]}: over UDP there are no connections, and only the handlers "
                f"{' and '.join(UDP_HANDLERS)}"
            )
        engine, endpoints = self._enter_engine(), []
        bindings = [None if each.fd >= 0 else self._binding(each) for each in addresses]
        try:
            for address, binding in zip(addresses, bindings, strict=True):
                if binding is None:
                    endpoints.append(engine.adopt_datagrams(address.fd))
                    continue
                for family, sockaddr in binding.addresses:
                    endpoints.append(engine.open_datagrams(family, sockaddr))
        except OSError as error:
            for endpoint in endpoints:
                endpoint.close()
            raise explain_bind_error(error, "udp") from None
        self._udp = UdpService(
            engine,
            endpoints,
            self.options,
            echo=self._handler_name == "echo",
            events=self.events,
        )

    def _binding(self, address: Address) -> Binding:
        """What to listen on for `address`, as far as this machine has it."""
        binding, missing = binding_here(address, self._enter_engine().machine)
        for each in missing:
            self.events.address_left_out(format_sockaddr(each.address, address.scheme), each.reason)
        return binding

    def _enter_engine(self) -> Engine:
        """The engine that the caller runs under is the server's, from the first call on."""
        if self._engine is None:
            self._engine = current_engine()
            self._all_gone = self._engine.event()
            self._drained = self._engine.event()
            self._housekeeping = Housekeeping(self._engine, self.events)
        return self._engine

    @property
    def addresses(self) -> list[str]:
        """The addresses that the server listens on, such as ``tcp://127.0.0.1:8000``."""
        return [
            format_sockaddr(address, "tls" if binding.tls else "tcp")
            for listener in self._listeners
            for address, binding in zip(listener.addresses, listener.bindings, strict=True)
        ] + [
            format_sockaddr(endpoint.local, "udp")
            for endpoint in (self._udp.endpoints if self._udp else ())
        ]

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open now."""
        return list(self._clients)

    async def serve_forever(self) -> None:
        """Accept and serve, until `drain` is called and has come to its end. When it is cancelled,
        it drains the server first, as the end of an ``async with`` block does.

        Raises RuntimeError when the server serves already, or has ended: a server lives once; what
        `start` raises; and OSError when a listening socket breaks, after the rest is drained.
        """
        await self._enter()
        try:
            self._accept_in_background()
            await self._until_all_accepted()
            await self._drained.wait()
        except BaseException:
            await self._leave()
            raise
        if self._failure is not None:
            raise self._failure

    async def _enter(self) -> None:
        if self._entered:
            raise RuntimeError(_ONCE)
        self._entered = True
        await self._start()

    async def _leave(self) -> None:
        await self.drain()
        await self._until_all_accepted()

    async def serve_until_signal(self) -> None:
        """`serve_forever`, and drain at the first SIGINT or SIGTERM, after the option
        `drain_delay`. A second one ends the process at once, with exit code 1. SIGHUP leads to
        `reload`. What was ignored before stays so. To be called on the main thread."""
        # Before it says that it is ready: from then on, a signal means a drain.
        reload = {int(signal.SIGHUP): lambda _signum: self.reload()}
        ends = (signal.SIGINT, signal.SIGTERM)
        with held_back(ends) as let_come, self.signals(ends, reload):
            with bounded_once_told(ends, START_SECONDS, _exit_without_start):
                let_come()
                await self.start()
            await self.serve_forever()

    @contextlib.contextmanager
    def signals(
        self, signals: Sequence[int], others: Mapping[int, Callable[[int], None]] = NOTHING
    ) -> Iterator[None]:
        """Within the block, the first of `signals` leads to `end`, and a second one ends the
        process at once; each of `others` calls its function. To be entered on the main thread.

        The process is the server: if the block has not come to its end a second after the deadline
        of the drain, since a handler swallows its cancellation, say, or never lets others run, the
        log names who is left, and the process exits with code 1.
        """
        engine = self._enter_engine()

        def end(_signum: int) -> None:
            engine.spawn(self.end(), name="drain")

        def told(_signum: int) -> None:
            last.begin(self.options.drain_timeout + LAST_SECONDS)

        of_this_block = self.last is None
        last = self.last = self.last or LastDeadline(self.exit_leaving)
        self._catches_signals = signal.SIGINT in signals
        try:
            with (
                held_back(signals) as let_come,
                engine.watch_signals(signals, end, _exit_at_once, others),
                heard_at_once(signals, told),
            ):
                let_come()
                yield
        finally:
            self._catches_signals = False
            if of_this_block:
                last.over()
                self.last = None

    def exit_leaving(self) -> NoReturn:
        """Say who is left, and end the process. May be called from any thread."""

        def say() -> None:
            left = self._left or [_handler_for(each) for each in self.connections]
            if not left and self._engine is not None:
                names = [*self._engine.left, *self._engine.living()]
                left = [f"the task {name!r}" for name in names if name not in OUR_TASKS]
            told = ", ".join(left[:MOST_NAMED]) or "something"
            if len(left) > MOST_NAMED:
                told += f" and {len(left) - MOST_NAMED} more"
            text = f"{told} did not end, though told to, and the time is over: exiting"
            last_words(text, logging.ERROR)
            self.before_exit()
            sys.stdout.flush()

        exit_after(say, SAY_SECONDS, self.exit_code)

    def reload(self) -> None:
        """Read the certificates again, for the connections to come. Those that are open notice
        nothing. To be called where tasks run.

        When something is wrong with them, the old ones stay, and an event says so.
        """
        self.events.reload_begun()
        certificates = self._greeting.certificates if self._started else None
        if certificates is not None:
            try:
                certificates.reload()
            except (StartError, OSError, MemoryError) as error:
                self.events.reload_failed(error)
                return
            self._tell_doubts()
        self.events.reloaded()

    def _tell_doubts(self) -> None:
        if (certificates := self._greeting.certificates) is not None:
            for doubt in certificates.doubts:
                self.events.certificate_doubtful(doubt)

    def set_udp_rates(self, rate: float, total_rate: float) -> None:
        """From now on, these stand for the options `udp_rate` and `udp_total_rate`. May be called
        from any thread."""
        if self._udp is not None:
            self._udp.set_rates(rate, total_rate)

    def pause(self) -> None:
        """Accept nobody until `resume`. Who connects waits in the backlog (one may be accepted that
        was waited for already, and waits with us). May be called from any thread."""
        if not self.paused:
            self._set_paused(True)
            self.events.accepting_paused()

    def resume(self) -> None:
        """Accept again. May be called from any thread."""
        if self.paused:
            self._set_paused(False)
            self.events.accepting_resumed()
            # Before the start nobody waits; nor when the server has drained, and its loop is over.
            if self._engine is not None and not self._draining:
                self._engine.call_from_thread(self.there_is_room)

    def _set_paused(self, paused: bool) -> None:
        self.paused = paused
        if self._started:
            self._door.paused = paused

    def there_is_room(self) -> None:
        """Let those who wait for room look again. To be called where tasks run."""
        if self._started:
            self._door.look_again()

    @property
    def unready(self) -> str | None:
        """Why the server should be sent no more clients; None: it is ready for them."""
        if self.ending:
            return "draining"
        if not self._started:
            return "not listening yet"
        return "accepting is paused" if self.paused else None

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
        if self._end_begun:
            await self._drained.wait()
            return self.aborted
        self._end_begun = True
        delay = self.options.drain_delay
        if delay and not self.ending:
            self.ending = True
            self.events.drain_delayed(delay)
            await engine.sleep(delay)
        return await self.drain(began + self.options.drain_timeout - engine.now())

    def take_backlog(self) -> None:
        """What waits in the backlog of inherited sockets is ours after all: nobody else will serve
        it. To be called where tasks run, before `drain`."""
        for listener in self._listeners:
            listener.take_waiting()

    async def retire(self) -> int:
        """Stop listening, and let the connections come to their own end; after as long as the
        option `reload_timeout` says, `drain`. For a server whose successor listens already. Called
        by a handler, it returns at once, as `drain` does."""
        if self._called_by_a_handler():
            self._enter_engine().spawn_background(self.retire(), name="retire")
            return self.aborted
        if not self.ending:
            self.ending = True
            engine = self._enter_engine()
            began = engine.now()
            self._stop_listening()
            while self._busy and not self._draining:
                left = began + self.options.reload_timeout - engine.now()
                if left <= 0:
                    break
                await self._until_all_gone(min(left, TELL_SECONDS))
        return await self.drain()

    async def drain(self, timeout: float | None = None) -> int:
        """Stop listening at once; end the connections, and return how many had to be aborted.

        A connection at rest (its handler waits in `recv`, and nothing has moved for 0.25 s) gets
        the end of its stream, so that the handler comes to its own end. The others go on. All
        share one deadline, `timeout` seconds from now (None: the option `drain_timeout`); who is
        left then is aborted: its peer gets a reset, its handler a cancellation. A handler that has
        not ended 0.75 s after that is left behind: it may still run when this returns. Called
        again, it waits for the first call to finish.

        Called by a handler, it does not wait for that one's own end: it begins the drain, and
        returns at once. (A task that the handler waits for should do so in a task of its own, with
        `anysock.spawn`; else all wait for each other until the deadline.)
        """
        if self._called_by_a_handler():
            if not self._draining:
                self._enter_engine().spawn_background(self.drain(timeout), name="drain")
            return self.aborted
        if self._draining:
            await self._drained.wait()
            return self.aborted
        self._draining = self.ending = True
        try:
            return await self._drain(timeout)
        except BaseException:
            # Given up: then for all, so that nobody waits for it for ever.
            self._let_go()
            self._abort_late()
            raise
        finally:
            self._housekeeping.end()
            self._drained.set()

    async def _drain(self, timeout: float | None) -> int:
        engine = self._enter_engine()
        began = told = engine.now()
        seconds = self.options.drain_timeout if timeout is None else timeout
        if self.last is not None:
            self.last.begin(seconds + LAST_SECONDS)
        self._stop_listening()
        # (Where the engine does one thing at a time, there is no such task: the acceptor is what
        # called the handler that runs.)
        async with engine.scope(min(seconds, LOOK_SECONDS)):
            await self._until_all_accepted()
        self.events.drain_begun(len(self._clients), seconds)

        punctuality, planned = Punctuality(engine.now()), 0.0
        while self._busy and (left := began + seconds - engine.now()) > 0:
            held_up = punctuality.held_up(engine.now(), planned)
            planned = min(left, LOOK_SECONDS)
            for connection, client in list(self._clients.items()):
                connection.draining = True
                if held_up:
                    client.excuse(held_up, engine.now())
                else:
                    client.rest(engine.now())
            await self._until_all_gone(min(left, LOOK_SECONDS))
            if self._clients and engine.now() - told >= TELL_SECONDS:
                told = engine.now()
                self.events.drain_left(len(self._clients), max(began + seconds - told, 0.0))

        # Now who still waits for room is let go, and nobody comes in any more.
        self._let_go()
        await self._until_all_accepted()
        if self._abort_late():
            await self._until_all_gone(CLEAN_UP_SECONDS)
        for client in list(self._clients.values()):
            # Told now, since the server ends without it.
            self._left.append(_handler_for(client.connection))
            self._account_for(client, CloseReason.ABORTED, None)
        if self._reserve is not None:
            self._reserve.close()
        self.events.drained(self.aborted, engine.now() - began)
        if self._left and self.last is not None:
            self.exit_leaving()
        return self.aborted

    def _called_by_a_handler(self) -> bool:
        task = self._enter_engine().current_task()
        return any(client.task == task for client in list(self._clients.values()))

    def _abort_late(self) -> list[Served]:
        """Abort whoever is left at the end of a drain, and return them."""
        left = list(self._clients.values())
        for client in left:
            # Counted here, and told as aborted when it is closed: no other end is counted.
            self.aborted += client.abort_late()
        return left

    def _let_go(self) -> None:
        """Turn away who still waits to come in."""
        if self._started:
            self._door.late = True
        for listener in self._listeners:
            listener.let_go()
        self.there_is_room()

    def _stop_listening(self) -> None:
        """Close the listening sockets. Who was connected already is still accepted, when there is
        room."""
        if self._started:
            self._door.closed = True
        if self._udp is not None:
            self._udp.close()
        for listener in self._listeners:
            listener.close()
        self.there_is_room()

    async def __aenter__(self) -> Self:
        engine = self._enter_engine()
        if not engine.concurrent:
            raise UsageError(
                f"the engine {engine.name!r} does one thing at a time, so it can't serve "
                "in the background: use serve_forever(), or another engine"
            )
        await self._enter()
        self._accept_in_background()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave()

    # -- accepting -----------------------------------------------------------------------------

    def _accept_in_background(self) -> None:
        engine = self._enter_engine()
        if not self._draining:
            self._keep_house(self._housekeeping)
        # Where the engine does one thing at a time, there is one listener, and this returns when
        # it is closed.
        for listener in self._listeners:
            task = engine.spawn(self._accept_clients(listener), name="accept")
            self._acceptors.append(task)

    def _keep_house(self, house: Housekeeping) -> None:
        limits = self._limits
        if (between := limits.between_looks) is not None:
            house.keep("limits", lambda: house.look_after(self._all_clients, limits, between))
        most = self.options.max_memory
        if most is None:
            most = most_for_connections()
        if most:
            # Each worker has its share.
            most = max(most // self.options.workers, 1)
            house.keep("memory", lambda: house.watch_memory(self._all_clients, most))
        if self._udp is not None:
            for endpoint in self._udp.endpoints:
                house.keep("udp", functools.partial(self._udp.serve, endpoint))

    def _all_clients(self) -> list[Served]:
        return list(self._clients.values())

    async def _accept_clients(self, listener: Listener) -> None:
        """Accept until the listener is closed. An error never ends this, unless it is final."""
        engine = self._enter_engine()
        batch = 0
        while True:
            try:
                waited = await self._door.has_room(listener)
                stream = await engine.accept(listener)
            except ListenerClosed:
                return
            except Exception as error:  # noqa: BLE001
                action = decide(error)
                if action is AcceptAction.STOP:
                    self.events.accept_error(error)
                    self._failure = error
                    engine.spawn(self.drain(), name="drain")
                    return
                # The peer waits in the backlog, and is served once there is room again.
                await self._after_failure(error, pause=action is AcceptAction.BACK_OFF)
            else:
                try:
                    await self._admit(stream, listener.binding, waited)
                except Exception as error:  # noqa: BLE001
                    await self._after_failure(error)
            batch += 1
            if batch % ACCEPT_BATCH == 0:
                await engine.sleep(0)

    async def _after_failure(self, error: Exception, *, pause: bool = True) -> None:
        """Whatever has failed in accepting one, the next is accepted."""
        self.events.accept_error(error)
        if pause:
            self._tell_accept_failed(error)
            await self._enter_engine().sleep(BACK_OFF_SECONDS)

    def _tell_accept_failed(self, error: Exception) -> None:
        left_out = self._accept_log.allow(self._enter_engine().now())
        if left_out is not None:
            assert self._reserve is not None
            # Telling may need a descriptor, and there is none left but the one kept for this.
            with self._reserve.spent():
                self.events.accept_failed(error, left_out)

    async def _admit(self, stream: Stream, binding: Binding, waited: bool) -> None:
        """Start serving a peer that was accepted, once there is room for it.

        Raises whatever goes wrong, such as `NotServed` when there is no room for one more (no
        thread can be started); then the peer, which we can't put back into the backlog, gets a
        reset.
        """
        client: Served | None = None
        try:
            client = Served(Connection(stream), self._enter_engine().now())
            await self._let_in(client, binding, waited)
        except BaseException:
            # Nobody else would close it.
            stream.abort()
            if client is None or client.connection not in self._clients:
                if client is not None:
                    self._give_back(client)
                await stream.close()
            else:
                if client.connection.of_proxy:
                    self.events.connection_opened(client.connection)
                await self._part_with(client, CloseReason.ABORTED, None)
            raise

    async def _let_in(self, client: Served, binding: Binding, waited: bool) -> None:
        engine, connection = self._enter_engine(), client.connection
        # Before all else: who may not come in must not take the place of who may.
        refused: CloseReason | None = None
        error: OSError | None = None
        if not self._greeting.by_proxies:
            refused = self._judge(client)
        elif not self._greeting.may_be_a_proxy(connection):
            refused = CloseReason.PROXY_HEADER
            error = PermissionError("its sender is none of the proxies (--proxy-from)")
        if refused is None:
            refused = await self._door.take_turn(waited)
            self.aborted += refused is CloseReason.ABORTED
        client.has_slot = refused is None
        client.opened_at = engine.now()
        self._clients[connection] = client
        self.events.connection_accepted(connection, client.opened_at)
        # Behind a proxy, that is told when it is known who has come: see `Greeting`.
        connection.of_proxy = refused is None and self._greeting.by_proxies
        if not connection.of_proxy:
            self.events.connection_opened(connection)
        if refused is not None:
            client.ended = refused
            connection.abort()
            await self._part_with(client, refused, error)
            return
        serving = self._serve_client(client, binding)
        try:
            engine.spawn(serving, name=f"client {connection.peer}")
        except OSError as error:
            serving.close()
            raise NotServed(error.errno, error.strerror) from error
        except BaseException:
            serving.close()
            raise

    def _judge(self, client: Served) -> CloseReason | None:
        """Why a client may not come in; None: it may, and its source is counted."""
        refused = self._door.judge(client.connection.peer)
        client.counted = refused is None
        return refused

    # -- supervising ---------------------------------------------------------------------------

    async def _serve_client(self, client: Served, binding: Binding) -> None:
        """Run the handler for one connection. Whatever it does, this accounts for it, and closes.

        A handler that raises, be it SystemExit, is reported, with its traceback, and its client
        sees the end of the stream; nobody else notices. A peer that is gone is no failure. Only a
        cancellation, and a Ctrl-C that nobody has caught, go on up.
        """
        connection, events = client.connection, self.events
        client.runs_as(self._enter_engine().current_task())
        reason = CloseReason.ABORTED
        lost: OSError | None = None
        try:
            await self._greeting.greet(client, binding)
            client.begin(self._enter_engine().now())
            await self.handler(connection)
            reason = client.how_it_ended()
            lost = connection.stream.lost
        except Refused as refused:
            reason, lost = client.ended or refused.reason, refused.error
            if not refused.politely:
                connection.abort()
        except BaseException as error:
            if is_cancellation(client, error, self._enter_engine().cancellations):
                raise
            if may_be_an_interrupt(error) and not self._catches_signals:
                raise
            if (end := of_the_peer(client, error)) is not None:
                reason, lost = end
            else:
                reason = CloseReason.FAILED
                add_hint(error, self._enter_engine().loop)
                events.handler_failed(connection, error)
        finally:
            await self._part_with(client, reason, lost)

    async def _part_with(self, client: Served, reason: CloseReason, lost: OSError | None) -> None:
        """Close a connection, and forget it. The one place where that is done."""
        try:
            await client.connection.close()
        except (OSError, AnysockError) as error:
            # There was nobody any more to part with.
            lost = lost or (error if isinstance(error, OSError) else None)
        finally:
            self._account_for(client, reason, lost)

    def _account_for(self, client: Served, reason: CloseReason, lost: OSError | None) -> None:
        """Give back what a connection has held, and tell of its end; once."""
        connection = client.connection
        if self._clients.pop(connection, None) is None:
            return
        if client.ended is CloseReason.ABORTED or reason is CloseReason.ABORTED:
            reason = client.ended or reason
        self._give_back(client)
        connection.lasted = self._enter_engine().now() - client.opened_at
        self.events.connection_closed(connection, reason, lost)
        if self.ending and not self._clients:
            self._all_gone.set()

    def _give_back(self, client: Served) -> None:
        if client.counted:
            self._door.leave(client.connection.peer)
        if client.has_slot:
            self._door.give_back()

    @property
    def _busy(self) -> bool:
        """Whether there are connections, or some to come that were accepted."""
        return bool(self._clients) or not all(acceptor.done for acceptor in self._acceptors)

    async def _until_all_accepted(self) -> None:
        """Wait until everybody is accepted who was connected when the server stopped listening."""
        for acceptor in self._acceptors:
            await acceptor.join()

    async def _until_all_gone(self, seconds: float) -> None:
        """Wait until no connection is left, but no longer than `seconds`."""
        engine = self._enter_engine()
        async with engine.scope(seconds):
            await self._until_all_accepted()
            # A new one each time: there may have been none left before the last of the backlog was
            # accepted. And made before the look, since the last may go at any moment.
            self._all_gone = engine.event()
            if self._clients:
                await self._all_gone.wait()


def _handler_for(connection: Connection) -> str:
    # As the log has it, so that one search finds one client.
    return f"the handler for {printable(str(connection.peer))}"


def _exit_without_start(signum: int) -> None:
    """The server was told to end, and what its start waits for, such as a file, does not come."""
    try:
        name = signal.Signals(signum).name
        last_words(f"{name} while the server starts, which does not come to its end: exiting")
    finally:
        os._exit(0)


def _exit_at_once(signum: int) -> None:
    """A second signal: end the process now, even if a handler holds it up."""
    try:
        last_words(f"a second signal, {signal.Signals(signum).name}: exiting at once")
    finally:
        os._exit(1)
