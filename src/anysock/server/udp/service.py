"""Serving echo (RFC 862) and discard (RFC 863) over UDP."""

from __future__ import annotations

from collections.abc import Sequence

from anysock.engines.base import Datagrams, Engine, SockAddr
from anysock.errors import StreamClosed, UsageError
from anysock.net.addresses import Address, explain_bind_error
from anysock.options.serve import ServeOptions
from anysock.server.accept_policy import BACK_OFF_SECONDS, LOG_INTERVAL_SECONDS, OncePer
from anysock.server.bindings import binding_told
from anysock.server.udp.policy import Refusal, UdpPolicy
from anysock.telemetry.events import Events

#: The handlers that need no connection.
HANDLERS = ("echo", "discard")

# How many datagrams are served in a row before other tasks run.
_BATCH = 64


class UdpService:
    """Answers the datagrams that come to the UDP sockets of a server, as its policy allows."""

    def __init__(
        self,
        engine: Engine,
        endpoints: list[Datagrams],
        options: ServeOptions,
        *,
        echo: bool,
        events: Events,
    ) -> None:
        self._engine = engine
        self.endpoints = endpoints
        self._echo = echo
        self._events = events
        # One policy for all sockets: a flood over two addresses is one flood.
        ports = [int(endpoint.local[1]) for endpoint in endpoints]
        self._policy = UdpPolicy(
            ports,
            options.udp_rate,
            options.udp_total_rate,
            engine.machine.is_ours,
            allow=options.allow,
            deny=options.deny,
        )
        self._told = {refusal: OncePer(LOG_INTERVAL_SECONDS) for refusal in Refusal}

    async def serve(self, endpoint: Datagrams) -> None:
        """Serve one socket until it is closed. No datagram, and no error, ends this."""
        served = 0
        while True:
            try:
                datagram = await endpoint.recv()
            except StreamClosed:
                return
            except OSError:
                # A socket without a peer gets no errors of the network: it is the system that has
                # no memory (recvmsg(2), ENOMEM). Datagrams wait in the socket's queue.
                await self._engine.sleep(BACK_OFF_SECONDS)
                continue
            self._events.datagram_received(len(datagram.data))
            if self._echo:
                now = self._engine.now()
                refusal = self._policy.judge(
                    datagram.source, datagram.destination, now, to_many=datagram.to_many
                )
                if refusal is None:
                    try:
                        endpoint.send(datagram.data, datagram.source, datagram.origin)
                        self._events.datagram_sent(len(datagram.data))
                    except StreamClosed:
                        return
                    except OSError:
                        refusal = Refusal.NOT_SENT
                if refusal is not None:
                    self._refuse(refusal, datagram.source, now)
            served += 1
            if served % _BATCH == 0:
                await self._engine.sleep(0)

    def _refuse(self, refusal: Refusal, source: SockAddr, now: float) -> None:
        self._events.datagram_refused(refusal.name.lower())
        left_out = self._told[refusal].allow(now)
        if left_out is not None:
            self._events.datagrams_refused(refusal.value, source, left_out)

    def set_rates(self, rate: float, total_rate: float) -> None:
        """From now on, these stand for the options. May be called from any thread."""
        self._policy.set_rates(rate, total_rate)

    def close(self) -> None:
        """Close the sockets; each `serve` returns."""
        for endpoint in self.endpoints:
            endpoint.close()


def open_udp(
    engine: Engine,
    addresses: Sequence[Address],
    options: ServeOptions,
    handler: str | None,
    events: Events,
) -> UdpService:
    """Open the sockets of udp:// `addresses`, to be served by the handler of that name.

    Raises `UsageError` for a handler that needs connections, and `StartError` when a socket can't
    be opened; then none is left open.
    """
    if handler not in HANDLERS:
        raise UsageError(
            f"{addresses[0]}: over UDP there are no connections, and only the handlers "
            f"{' and '.join(HANDLERS)}"
        )
    endpoints: list[Datagrams] = []
    bindings = [
        None if each.fd >= 0 else binding_told(each, engine.machine, events) for each in addresses
    ]
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
    return UdpService(engine, endpoints, options, echo=handler == "echo", events=events)
