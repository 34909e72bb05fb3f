"""What comes before the handler: who the client is, and what is put around its stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anysock.engines.base import Binding, Engine
from anysock.errors import StreamAborted
from anysock.net.networks import contains
from anysock.net.proxy_protocol import BadProxyHeader
from anysock.server.session import Served
from anysock.streams.connection import Connection
from anysock.streams.costly import CostlyWork
from anysock.streams.limiting import LimitedStream
from anysock.streams.proxy_header import read_header
from anysock.telemetry.events import CloseReason, Events

if TYPE_CHECKING:
    from anysock.net.certificates import Certificates
    from anysock.options.serve import ServeOptions


class Refused(Exception):
    """A client is not served."""

    def __init__(
        self, reason: CloseReason, error: OSError | None = None, *, politely: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        #: Whether it gets an end of stream, and not a reset.
        self.politely = politely


class Greeting:
    """Hears a proxy out, shakes hands for TLS, and puts limits around a stream.

    `judge` says why a client may not come in, once it is known which one has come.
    """

    def __init__(
        self,
        engine: Engine,
        options: ServeOptions,
        events: Events,
        judge: Callable[[Served], CloseReason | None],
    ) -> None:
        #: What tls:// addresses show.
        self.certificates: Certificates | None = None
        self._engine = engine
        self._options = options
        self._events = events
        self._judge = judge
        self._costly = CostlyWork(engine)

    @property
    def by_proxies(self) -> bool:
        """Whether all clients come through proxies that say who they are."""
        return self._options.proxy_protocol != "off"

    def may_be_a_proxy(self, connection: Connection) -> bool:
        """Whether its header is to be believed. On a Unix socket, the permissions of its file say
        who is a proxy."""
        peer = connection.peer
        return isinstance(peer, str) or contains(self._options.proxy_from, peer)

    async def greet(self, client: Served, binding: Binding) -> None:
        """Prepare a client for its handler. Raises `Refused` for one that is not served."""
        options, connection = self._options, client.connection
        if self.by_proxies or binding.tls:
            reason = CloseReason.HANDSHAKE
            async with self._engine.scope(options.handshake_timeout or None) as scope:
                if self.by_proxies:
                    reason = CloseReason.PROXY_HEADER
                    await self._hear_the_proxy(client)
                if binding.tls:
                    reason = CloseReason.HANDSHAKE
                    await self._shake_hands(client)
            if scope.fired:
                raise Refused(reason, TimeoutError("it took too long"))
        if options.max_bytes is not None or options.rate_limit is not None:
            engine, most, rate = self._engine, options.max_bytes, options.rate_limit
            connection.wrap(lambda stream: LimitedStream(stream, engine, most=most, rate=rate))
        if options.recv_size is not None:
            connection.stream.set_recv_size(options.recv_size)

    async def _hear_the_proxy(self, client: Served) -> None:
        """Learn from the header of the PROXY protocol who the client is, and judge that one."""
        connection = client.connection
        try:
            header = await read_header(connection.stream, self._costly)
            itself = header.command == "LOCAL"
            connection.speaks_for(header.source, header.size, itself=itself)
        except BadProxyHeader as error:
            reason = CloseReason.PROXY_HEADER if error.begun else CloseReason.NO_DATA
            raise Refused(reason, error) from None
        finally:
            self._events.connection_opened(connection)
        if itself:
            return  # to be taken as valid (section 2.2), so `allow` and `deny` are not for these
        refused = self._judge(client)
        if refused is not None:
            raise Refused(refused)

    async def _shake_hands(self, client: Served) -> None:
        """Speak TLS with the client from here on."""
        from anysock.streams.tls import TlsStream

        assert self.certificates is not None
        connection = client.connection
        outside = connection.stream
        heard = outside.bytes_received
        context = self.certificates.context
        stream = TlsStream(outside, context, server_side=True, costly=self._costly)
        connection.wrap(lambda _: stream)
        try:
            await stream.handshake()
        except OSError as error:
            if client.ended is not None or isinstance(error, StreamAborted):
                raise
            # Who has not said a word is a load balancer that looks whether somebody is there.
            said = outside.bytes_received > heard
            reason = CloseReason.HANDSHAKE if said else CloseReason.NO_DATA
            # So that the client can still read what we have told it of that.
            raise Refused(reason, error, politely=True) from None
