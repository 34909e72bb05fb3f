"""What comes before the handler: the header of a proxy, TLS, and the limits around a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysock.engines.base import Engine
from anysock.errors import StreamAborted
from anysock.net.networks import contains
from anysock.net.proxy_protocol import BadProxyHeader
from anysock.streams.connection import Connection
from anysock.streams.costly import CostlyWork
from anysock.streams.limiting import LimitedStream
from anysock.streams.proxy_header import read_header
from anysock.streams.tls_offer import TlsOffer
from anysock.telemetry.events import CloseReason

if TYPE_CHECKING:
    from anysock.net.certificates import Certificates
    from anysock.options.serve import ServeOptions


class Refused(Exception):
    """A connection is not served."""

    def __init__(
        self, reason: CloseReason, error: OSError | None = None, *, politely: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        #: Whether it gets an end of stream, and not a reset.
        self.politely = politely


class Handshake:
    """Prepares connections for their handler, as the options say. `certificates` are what tls://
    addresses show, and handlers that start TLS themselves."""

    def __init__(
        self, engine: Engine, options: ServeOptions, certificates: Certificates | None
    ) -> None:
        #: Seconds that all of it may take; None: without limit.
        self.timeout = options.handshake_timeout or None
        #: Whether all connections come through proxies, which say for whom they speak.
        self.by_proxies = options.proxy_protocol != "off"
        self._certificates = certificates
        self._engine = engine
        self._options = options
        self._costly = CostlyWork(engine)
        self._offer = TlsOffer(certificates, self.timeout, options.recv_size, self._costly)

    def may_be_a_proxy(self, connection: Connection) -> bool:
        """Whether its header is to be believed. On a Unix socket, the permissions of the file
        decide which programs are proxies."""
        peer = connection.peer
        return isinstance(peer, str) or contains(self._options.proxy_from, peer)

    async def read_proxy_header(self, connection: Connection) -> bool:
        """Learn from the header of the PROXY protocol who the client is. True if the proxy speaks
        for itself. Raises `Refused` for a bad header."""
        try:
            header = await read_header(connection.stream, self._costly)
            itself = header.command == "LOCAL"
            connection.speaks_for(header.source, header.size, itself=itself)
        except BadProxyHeader as error:
            reason = CloseReason.PROXY_HEADER if error.begun else CloseReason.NO_DATA
            raise Refused(reason, error) from None
        return itself

    async def start_tls(self, connection: Connection) -> None:
        """Speak TLS on the connection from here on. Raises `Refused` when the handshake fails."""
        from anysock.streams.tls import TlsStream

        assert self._certificates is not None
        outside = connection.stream
        received = outside.bytes_received
        shown = self._certificates.identities
        stream = TlsStream(outside, shown, server_side=True, costly=self._costly)
        connection.wrap(lambda _: stream)
        try:
            await stream.handshake()
        except StreamAborted:
            raise
        except OSError as error:
            # A peer that sent nothing is most likely a TCP health check.
            said = outside.bytes_received > received
            reason = CloseReason.HANDSHAKE if said else CloseReason.NO_DATA
            # So that the client can still read the alert that says what was wrong.
            raise Refused(reason, error, politely=True) from None

    def put_limits(self, connection: Connection) -> None:
        """Put the limits of bytes and of speed around its stream, and let its handler have what it
        may start TLS with."""
        engine, options = self._engine, self._options
        connection.tls_offer = self._offer
        if options.max_bytes is not None or options.rate_limit is not None:
            most, rate = options.max_bytes, options.rate_limit
            connection.wrap(lambda stream: LimitedStream(stream, engine, most=most, rate=rate))
        if options.recv_size is not None:
            connection.stream.set_recv_size(options.recv_size)
