"""`Connection`: what a handler sees of one connected peer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from anysock.engines.base import PeerCredentials, SockAddr, Stream
from anysock.errors import OutboxFull, UsageError
from anysock.machine.compiled import fast
from anysock.net.receive_buffer import ReceiveBuffer
from anysock.streams.receiving import Receiving
from anysock.streams.running import RunningServer, State_co
from anysock.streams.sending import Sending

if TYPE_CHECKING:
    import ssl

    from anysock.net.tls_session import TlsSession
    from anysock.streams.connection_log import ConnectionLog
    from anysock.streams.tls_offer import TlsOffer


# Numbers the connections of this process. (`next` on it is one step, also between threads.)
_numbers = itertools.count(1)


class Connection(Receiving, Sending, Generic[State_co]):
    """One connected peer. Handlers get one; `anysock.connect` makes one.

    Every operation may raise ConnectionError, or another OSError, when the peer or the network
    is gone. A handler need not catch it: for the server that is a normal end of a connection. So is
    an `EndOfStream`, a `MessageTooLong` or a `BadFrame` of its own connection: no peer can make a
    handler fail by what it sends.

    Iterating over a connection gives the chunks as they come, until the peer ends the stream:

    >>> async def echo(connection):
    ...     async for chunk in connection:
    ...         await connection.send_all(chunk)

    The server closes a connection when its handler returns or raises. ``async with`` does it for
    a connection that you have made yourself.

    ``Connection[App]`` is one of a server whose lifespan gives an ``App``: that is its `state`.
    """

    #: How long it was open, in seconds. Known once the server has closed it.
    lasted: float | None = None

    #: Whether `abort` was called.
    aborted = False

    #: What the lifespan of its server has given: see `Server`. None where there is none.
    state: State_co = None  # type: ignore[assignment]

    #: Why its `Outbox` has disconnected it, if it has.
    overrun: OutboxFull | None = None

    # What few connections have, or not for long, is an attribute of the class until then: one of
    # their own would cost each of them memory.

    #: Whether the peer is a proxy that speaks for itself, as in a health check, or that has not
    #: named its client yet.
    of_proxy = False

    #: True once the server has begun to drain, or the connection has had its time: a handler
    #: that sends unasked should come to an end. (One that waits in `recv` need not check it:
    #: see `Server.drain`.)
    draining = False

    _client: SockAddr | None = None

    # What has come and gone that is not the conversation's: the header of a proxy.
    _overhead = 0

    _log: ConnectionLog | None = None

    #: The host that `anysock.connect` was given, as TLS asks for it; None: it was not, or none.
    server_name: str | None = None

    #: What its server has for `start_tls`.
    #:
    #: :meta private:
    tls_offer: TlsOffer | None = None

    # What each has, and compiled code finds; the rest is in the dict, which few have.
    __slots__ = ("_buffer", "_number", "_server", "_stream")

    def __init__(self, stream: Stream, server: RunningServer[State_co] | None = None) -> None:
        self._stream = stream
        self._buffer = None
        self._number = next(_numbers)
        self._server = server
        if server is not None:
            self.state = server.state

    def wrap(self, make: Callable[[Stream], Stream]) -> None:
        """Put a stream around the one that the connection stands on: TLS, or a fault on purpose.

        From now on what is received and sent goes through ``make(stream)``. To be called while no
        task waits in `recv` or `send_all`.

        Raises RuntimeError when bytes have been received that no line, frame or count has taken:
        they came without the wrapping.
        """
        if self._buffer:
            raise RuntimeError(f"{self.buffered} bytes are buffered that came before the wrapping")
        self._stream = make(self._stream)
        self._buffer = None

    def speaks_for(self, client: SockAddr | None, overhead: int, *, itself: bool) -> None:
        """The peer is a proxy that has said, in `overhead` bytes, that it
        speaks for `client` (None: for an unknown one), or for `itself`. For the server."""
        # In version 1 of the PROXY protocol, such a proxy gives its own address.
        self.of_proxy = itself or client == self._stream.peer
        self._client = None if self.of_proxy else client
        self._overhead = overhead
        self._log = None  # it has named the proxy

    def __repr__(self) -> str:
        return f"<Connection from {self.peer}>"

    @property
    def id(self) -> str:
        """A short text that names this connection and no other of this machine, in the log and
        elsewhere: the number of the process, and that of the connection in it, ``4711-17``."""
        return f"{os.getpid()}-{self._number}"

    @property
    def server(self) -> RunningServer[State_co]:
        """The `Server` that has accepted it. Raises `UsageError` for a connection that `connect`
        has made, which has none."""
        if self._server is None:
            raise UsageError("this connection was not accepted by a server: it has none")
        return self._server

    @property
    def log(self) -> ConnectionLog:
        """A logger for what concerns this connection: its records carry `id` and `peer`.

        It logs to ``anysock.handler``. Our log of text puts the two before the message; in JSON
        they are fields; other formats can use ``%(connection)s`` and ``%(peer)s``."""
        if self._log is None:
            from anysock.streams.connection_log import ConnectionLog

            self._log = ConnectionLog(self.id, self.peer)
        return self._log

    @property
    def peer(self) -> SockAddr:
        """The address of the other end: ``(host, port)``, and two numbers more for IPv6. Behind a
        proxy that speaks the PROXY protocol, that of the real client; ``"unix"`` on a Unix socket.
        """
        return self._client or self._stream.peer

    @property
    def via(self) -> SockAddr | None:
        """The address of the proxy that the client has come through, or None."""
        return self._stream.peer if self._client else None

    @property
    def local(self) -> SockAddr:
        """The address of our end."""
        return self._stream.local

    @property
    def tls(self) -> TlsSession | None:
        """What was agreed on where TLS is spoken: its `version`, its `cipher`, the `server_name`
        that was asked for, the protocol `alpn` that was chosen, and the peer's `peer_certificate`,
        as `ssl.SSLSocket.getpeercert` has it. None where it is not."""
        return self._stream.tls  # type: ignore[no-any-return]

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """On a Unix socket, the process at the other end: its `pid`, `uid` and `gid` when it
        connected (unix(7), SO_PEERCRED). None where the system does not tell."""
        return self._stream.peer_credentials

    @property
    def bytes_received(self) -> int:
        """How many bytes have come from the peer."""
        return self._stream.bytes_received - self._overhead

    @property
    def bytes_sent(self) -> int:
        """How many bytes have been handed to the operating system for the peer."""
        return self._stream.bytes_sent

    @property
    def held(self) -> int:
        """How many bytes are kept in memory for it: arrived and not received yet, or given to a
        `send_all` that waits. What its handler keeps is not included."""
        return self.buffered + self._stream.held

    async def start_tls(
        self,
        context: ssl.SSLContext | None = None,
        *,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        """Speak TLS from here on: what STARTTLS asks for. To be called when the last line of plain
        text is received, and the answer to it is sent.

        A handler of a server says ``server_side=True``; without `context` it shows the certificates
        of the option `tls_cert`. A client checks the server's certificate for `server_name` (None:
        the host that `anysock.connect` was given); without `context` it trusts the authorities that
        the system trusts.

        >>> async def smtp(connection):
        ...     async for line in connection.lines():
        ...         if line.upper() == b"STARTTLS\\r\\n":
        ...             await connection.send_all(b"220 go ahead\\r\\n")
        ...             await connection.start_tls(server_side=True)

        What `recv_lines` or `recv_frames` has returned behind that line can't be refused here:
        where it is not the last of its batch, end the connection.

        Forget what was said before: in plain text, anybody on the way may have said it.

        Raises `TlsInjection` when something is buffered (or was put back by `unread`): it has come
        in plain text, behind the line that was received last, and would be taken for what comes by
        TLS (CVE-2011-0411; its twin is a server's answer in plain text). What you have taken
        already, as by `recv_lines`, you must look at yourself. Raises `TlsError` when the
        handshake fails, or in a server takes longer than its option `handshake_timeout`. After
        either, and when it is cancelled, nothing can be received or sent any more; a handler need
        not catch them. Raises `StreamBusy` when another task receives or sends here, and
        `UsageError` when there is no certificate to show, or no name to ask for; then nothing has
        happened.
        """
        from anysock.streams.starting_tls import start_tls

        await start_tls(self, context, server_side=server_side, server_name=server_name)

    def discard_buffered(self) -> int:
        """Throw away what is buffered; return how many bytes that were.

        :meta private:
        """
        return len(self._buffer.take_rest()) if self._buffer else 0

    @property
    def stream(self) -> Stream:
        """The stream below: for the server, and for code that builds on `Connection`."""
        return self._stream

    async def close(self) -> None:
        """Close our end; what was sent is still delivered. Safe to call again.

        A peer that is still sending has a second to notice, so that the close does not destroy
        the answer that it has not read yet.
        """
        await self._stream.close()

    def abort(self) -> None:
        """Give the connection up: tasks that wait on it get ConnectionAbortedError, unsent data is
        dropped, and the later close sends a reset to the peer."""
        self.aborted = True
        self._stream.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


if fast is not None:
    _methods = fast.bind_connection(
        Connection, ReceiveBuffer, Receiving.recv.__doc__, Sending.send_all.__doc__
    )
    Connection.recv, Connection.send_all = _methods  # type: ignore[method-assign]
