"""`Connection`: what a handler sees of one connected peer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from anysock.engines.base import Data, SockAddr, Stream
from anysock.engines.current import current_engine
from anysock.errors import EndOfStream, LineTooLong
from anysock.net.lines import MAX_LINE, LineBuffer

if TYPE_CHECKING:
    from anysock.net.tls_session import TlsSession

# How many lines, or pieces, are returned in a row from data that is there, before other tasks run:
# one chunk may hold a quarter of a million lines.
_IN_A_ROW = 64


class Connection:
    """One connected peer. Handlers get one; `anysock.connect` makes one.

    Every operation may raise ConnectionError, or another OSError, when the peer or the network
    is gone. A handler need not catch it: for the server that is a normal end of a connection. So is
    an `EndOfStream`, or a `LineTooLong`, of its own connection: no peer can make a handler fail.

    Iterating over a connection gives the chunks as they come, until the peer ends the stream:

    >>> async def echo(connection):
    ...     async for chunk in connection:
    ...         await connection.send_all(chunk)

    The server closes a connection when its handler returns or raises. ``async with`` does it for
    a connection that you have made yourself.
    """

    #: How long it was open, in seconds. Known once the server has closed it.
    lasted: float | None = None

    #: What the peer has sent, or not, that `recv_exactly` or `recv_line` had to raise for.
    fault: EndOfStream | LineTooLong | None = None

    #: Whether `abort` was called.
    aborted = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer: LineBuffer | None = None
        self._left_in_a_row = _IN_A_ROW
        self._client: SockAddr | None = None
        # What has come and gone that is not the conversation's: the header of a proxy.
        self._overhead = 0
        #: Whether the peer is a proxy that speaks for itself, as in a health check, or that has not
        #: named its client yet.
        self.of_proxy = False
        #: True once the server has begun to drain, or the connection has had its time: a handler
        #: that sends unasked should come to an end. (One that waits in `recv` need not check it:
        #: see `Server.drain`.)
        self.draining = False
        # The layers cost nothing while they have nothing to do: until a line is asked for,
        # there is no buffer to look into, and these are the stream's own methods.
        self.recv = stream.recv  # type: ignore[method-assign]
        self.send_all = stream.send_all  # type: ignore[method-assign]

    def wrap(self, make: Callable[[Stream], Stream]) -> None:
        """Put a stream around the one that the connection stands on: TLS, or a fault on purpose.

        From now on what is received and sent goes through ``make(stream)``. To be called while no
        task waits in `recv` or `send_all`, and before the first line is asked for.
        """
        if self._buffer is not None:
            raise RuntimeError("lines have been read: what is in their buffer was not wrapped")
        self._stream = stream = make(self._stream)
        self.recv = stream.recv  # type: ignore[method-assign]
        self.send_all = stream.send_all  # type: ignore[method-assign]

    def speaks_for(self, client: SockAddr | None, overhead: int, *, itself: bool) -> None:
        """The peer is a proxy that has said, in `overhead` bytes, that it
        speaks for `client` (None: for an unknown one), or for `itself`. For the server."""
        # In version 1 of the PROXY protocol, such a proxy gives its own address.
        self.of_proxy = itself or client == self._stream.peer
        self._client = None if self.of_proxy else client
        self._overhead = overhead

    def __repr__(self) -> str:
        return f"<Connection from {self.peer}>"

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
        """What was agreed on where TLS is spoken: its `version`, its `cipher`, and the peer's
        `peer_certificate`, as `ssl.SSLSocket.getpeercert` has it. None where it is not."""
        return self._stream.tls  # type: ignore[no-any-return]

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
        return len(self._buffer or b"") + self._stream.held

    @property
    def stream(self) -> Stream:
        """The stream below: for the server, and for code that builds on `Connection`."""
        return self._stream

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Wait for data; return at least 1 and at most `max_bytes` of it.

        ``b""`` is the end of the stream: the peer will send no more. TCP has no messages: what
        was sent at once may come in pieces, and what was sent in pieces at once. None asks for
        what suits the traffic (little at first, up to 256 KiB while reads fill it).
        """
        return self._recv_buffered(max_bytes)

    async def _recv_buffered(self, max_bytes: int | None) -> bytes:
        if self._buffer:
            self._left_in_a_row -= 1
            if not self._left_in_a_row:
                await self._let_others_run()
            return self._buffer.take(max_bytes or len(self._buffer))
        return await self._stream.recv(max_bytes)

    async def recv_exactly(self, size: int) -> bytes:
        """Wait for `size` bytes, and return just these.

        Raises `EndOfStream`, which holds what did come, when the peer ends the stream before.
        """
        buffer = self._buffer_of_ours()
        if buffer:
            self._left_in_a_row -= 1
            if not self._left_in_a_row:
                await self._let_others_run()
        while len(buffer) < size:
            data = await self._stream.recv()
            if not data:
                self.fault = EndOfStream(buffer.take_rest(), size)
                raise self.fault
            buffer.feed(data)
        return buffer.take(size) if size else b""

    async def recv_line(self, max_bytes: int = MAX_LINE) -> bytes:
        """Wait for a line, and return it as it came, with the LF or CRLF that ends it.

        At the end of the stream what is left is returned, without a line ending, and then
        ``b""``. Raises `LineTooLong` as soon as more than `max_bytes` bytes have come without
        a line ending (which is not counted); then what has come stays to be received.
        """
        buffer = self._buffer_of_ours()
        if buffer:
            self._left_in_a_row -= 1
            if not self._left_in_a_row:
                await self._let_others_run()
        try:
            while (line := buffer.next_line(max_bytes)) is None:
                data = await self._stream.recv()
                if not data:
                    return buffer.take_rest()
                buffer.feed(data)
        except LineTooLong as error:
            self.fault = error
            raise
        return line

    def lines(self, max_bytes: int = MAX_LINE) -> _Lines:
        """Iterate over the lines, each as `recv_line` returns it, until the stream ends."""
        return _Lines(self, max_bytes)

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.recv()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def send_all(self, data: Data) -> Awaitable[None]:
        """Send all of `data`; return when the last byte is handed to the operating system.

        While the peer does not read, this waits. So a handler that sends before it receives
        again can't be made to hold more than one chunk. `data` is bytes, or a bytearray or
        memoryview of bytes that stays as it is until then.
        """
        return self._stream.send_all(data)

    async def send_eof(self) -> None:
        """Half-close: tell the peer that no more will be sent. It may still send."""
        await self._stream.send_eof()

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

    async def _let_others_run(self) -> None:
        # Called before anything is taken, so that a receive that is cancelled here loses nothing;
        # and even if it has waited for the network, which lets no other task run where there is
        # always more.
        self._left_in_a_row = _IN_A_ROW
        await current_engine().sleep(0)

    def _buffer_of_ours(self) -> LineBuffer:
        if self._buffer is None:
            self._buffer = LineBuffer()
            # From now on `recv` must look there first: back to the method of the class.
            del self.recv
        return self._buffer


class _Lines:
    """The iterator that `Connection.lines` returns."""

    def __init__(self, connection: Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> bytes:
        line = await self._connection.recv_line(self._max_bytes)
        if not line:
            raise StopAsyncIteration
        return line
