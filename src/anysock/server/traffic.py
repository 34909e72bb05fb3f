"""The traffic of a server: its listeners, its acceptors, and its open connections."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anysock import systemd
from anysock.engines.base import Engine
from anysock.handlers import Handler
from anysock.net.addresses import explain_bind_error, format_sockaddr
from anysock.options.serve import ServeOptions
from anysock.server.acceptor import AcceptFailures, Acceptor
from anysock.server.admission import OwnSlots, Slots, connections_that_fit
from anysock.server.bindings import binding_told
from anysock.server.gate import AdmissionGate
from anysock.server.handshake import Handshake
from anysock.server.housekeeping import Housekeeping, Punctuality, most_held
from anysock.server.phase import Life
from anysock.server.process import OwnProcess
from anysock.server.session import Desk, Sessions
from anysock.server.time_limits import TimeLimits
from anysock.server.udp.service import UdpService, open_udp
from anysock.streams.running import RunningServer
from anysock.telemetry.events import Events

if TYPE_CHECKING:
    from anysock.net.certificates import Certificates

# Seconds between two checks of the connections during a drain, and before the first one; and
# between two reports of how many are left.
CHECK_SECONDS = 0.05
FIRST_CHECK_SECONDS = 0.01
REPORT_SECONDS = 1.0


class Traffic:
    """What a server has once it listens. Before `open`, there is nothing in it."""

    def __init__(
        self,
        server: RunningServer[Any],
        handler: Handler,
        name: str | None,
        options: ServeOptions,
        *,
        life: Life,
        process: OwnProcess,
        slots: Slots | None,
    ) -> None:
        self.sessions = Sessions()
        #: What tls:// addresses show, and handlers that start TLS; None: there are none.
        self.certificates: Certificates | None = None
        self._server = server
        self._handler = handler
        # What matters for UDP, which has no handlers but some of the standard ones.
        self._name = name
        self._options = options
        self._life = life
        self._process = process
        self._slots = slots
        self._gate: AdmissionGate | None = None
        self._failures: AcceptFailures | None = None
        self._acceptors: Sequence[Acceptor] = ()
        self._udp: UdpService | None = None
        self._house: Housekeeping | None = None

    def open(self, engine: Engine, events: Events, broken: Callable[[Exception], object]) -> int:
        """Bind and listen; ``broken(error)`` is called when a listener breaks. Return how many
        connections there may be; 0: there are only datagrams.

        Raises `StartError` and `UsageError`, as `Server.start` does; then nothing is left open.
        """
        options = self._options
        addresses = systemd.expand(options.addresses)
        bindings = [
            binding_told(each, engine.machine, events) for each in addresses if each.kind != "udp"
        ]
        if options.tls_cert:
            # OpenSSL is loaded only where it is needed.
            from anysock.net.certificates import Certificates

            self.certificates = Certificates(
                options.tls_cert, options.tls_key, options.tls_client_ca, options.tls_alpn
            )
        if datagrams := [each for each in addresses if each.kind == "udp"]:
            self._udp = open_udp(engine, datagrams, options, self._name, events)
        try:
            listeners = engine.listen(bindings, options.backlog, options.socket_buffer)
        except OSError as error:
            if self._udp is not None:
                self._udp.close()
            raise explain_bind_error(error) from None
        slots = self._slots or OwnSlots(
            options.max_connections or connections_that_fit(engine.machine)
        )
        self._gate = AdmissionGate(engine, self._life, slots, options, events)
        handshake = Handshake(engine, options, self.certificates)
        desk = Desk(
            server=self._server,
            engine=engine,
            events=events,
            gate=self._gate,
            handshake=handshake,
            handler=self._handler,
            sessions=self.sessions,
            process=self._process,
        )
        self._failures = failures = AcceptFailures(engine, events)
        self._acceptors = [Acceptor(each, desk, failures, broken) for each in listeners]
        return slots.most if bindings else 0

    @property
    def addresses(self) -> list[str]:
        """Where the server listens."""
        return [
            format_sockaddr(address, "tls" if binding.tls else "tcp")
            for acceptor in self._acceptors
            for address, binding in zip(
                acceptor.listener.addresses, acceptor.listener.bindings, strict=True
            )
        ] + [
            format_sockaddr(endpoint.local, "udp")
            for endpoint in (self._udp.endpoints if self._udp else ())
        ]

    def begin(self, engine: Engine, events: Events) -> None:
        """Accept and serve from now on. Where the engine does one thing at a time, this returns
        when the listeners are closed."""
        if not self._life.phase.draining:
            self._house = house = Housekeeping(engine, events)
            limits, sessions = TimeLimits.of(self._options), self.sessions.all
            if (interval := limits.check_interval) is not None:
                house.keep("limits", lambda: house.check_times(sessions, limits, interval))
            most = self._options.max_memory
            if most is None:
                most = most_held(engine.machine)
            if most:
                # Each worker has its share.
                share = max(most // self._options.workers, 1)
                house.keep("memory", lambda: house.check_memory(sessions, share))
            if self._udp is not None:
                for endpoint in self._udp.endpoints:
                    house.keep("udp", functools.partial(self._udp.serve, endpoint))
        for acceptor in self._acceptors:
            acceptor.start()

    def notify(self) -> None:
        """There may be room now, or the server's phase has changed. To be called where tasks
        run."""
        if self._gate is not None:
            self._gate.notify()

    def set_udp_rates(self, rate: float, total_rate: float) -> None:
        """From now on, these stand for the options. May be called from any thread."""
        if self._udp is not None:
            self._udp.set_rates(rate, total_rate)

    # -- its end -------------------------------------------------------------------------------

    def serve_backlog(self) -> None:
        """The backlog of inherited sockets is ours after all, when they close."""
        for acceptor in self._acceptors:
            acceptor.listener.serve_backlog()

    def stop_listening(self) -> None:
        """Close the listening sockets. Peers that were connected already are still accepted, when
        there is room."""
        if self._udp is not None:
            self._udp.close()
        for acceptor in self._acceptors:
            acceptor.listener.close()
        self.notify()

    def turn_away(self) -> None:
        """Reset the peers that still wait to come in, or let the gate refuse them."""
        for acceptor in self._acceptors:
            acceptor.listener.reset_backlog()
        self.notify()

    def close(self) -> None:
        """Give back what is left, once all sessions are closed. Safe to call again."""
        if self._house is not None:
            self._house.end()
        if self._failures is not None:
            self._failures.close()

    async def until_closed(self, engine: Engine, seconds: float) -> None:
        """Wait until the tasks have ended that `close` has cancelled, but no longer than
        `seconds`."""
        if self._house is not None:
            async with engine.scope(seconds):
                await self._house.until_ended()

    @property
    def busy(self) -> bool:
        """Whether there are connections, or some to come that were accepted."""
        return not self.sessions.gone or not all(acceptor.done for acceptor in self._acceptors)

    async def until_accepted(self) -> None:
        """Wait until the backlog is accepted that there was when the listeners were closed."""
        for acceptor in self._acceptors:
            await acceptor.join()

    async def until_gone(self, engine: Engine, seconds: float) -> None:
        """Wait until no connection is left, but no longer than `seconds`."""
        async with engine.scope(seconds):
            # Where the engine does one thing at a time, too: else whoever comes in right now would
            # not be seen, neither here nor among the sessions.
            for acceptor in self._acceptors:
                await acceptor.until_done()
            await self.sessions.until_none(engine)

    def tell_of_drain(self) -> None:
        """Let handlers know that their connection is drained."""
        for session in self.sessions.all():
            session.connection.draining = True

    async def end_idle(self, engine: Engine, events: Events, began: float, seconds: float) -> None:
        """Until no connection is left, but no longer than `seconds` from the time `began`: end
        those at rest, and report how many are left."""
        punctuality, planned, reported = Punctuality(engine.now()), FIRST_CHECK_SECONDS, began
        # What has come while the process was stopped, say, may not have been received yet.
        await self.until_gone(engine, min(planned, seconds))
        while self.busy and (left := began + seconds - engine.now()) > 0:
            held_up = punctuality.held_up(engine.now(), planned)
            planned = min(left, CHECK_SECONDS)
            for session in self.sessions.all():
                session.end_if_idle(engine.now(), held_up)
            await self.until_gone(engine, planned)
            if self.sessions and engine.now() - reported >= REPORT_SECONDS:
                reported = engine.now()
                events.drain_left(len(self.sessions), max(began + seconds - reported, 0.0))
