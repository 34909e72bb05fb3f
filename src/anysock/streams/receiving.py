"""The receiving half of a `Connection`: chunks, lines, frames and counted bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Self, TypeAlias

from anysock.engines.base import Stream
from anysock.engines.current import current_engine
from anysock.engines.finished import FINISHED
from anysock.errors import PEER_FAULTS, BadFrame, EndOfStream, MessageTooLong, UsageError
from anysock.machine.compiled import fast
from anysock.net.frames import MAX_FRAME, ByteOrder, Framing, Prefix, framing
from anysock.net.receive_buffer import MAX_LINE, ReceiveBuffer

#: What a peer may do wrong by what it sends, or does not send.
Fault: TypeAlias = EndOfStream | MessageTooLong | BadFrame

# How many lines, or pieces, are returned in a row from data that is there, before other tasks run:
# one chunk may hold a quarter of a million lines.
_IN_A_ROW = 64

# How many of them `recv_lines` and `recv_frames` return at most.
_MAX_BATCH = 256


class Receiving:
    """What a handler may receive, and how.

    All that is returned was there, or is waited for: a receive that finds in the buffer what it
    was asked for neither waits nor lets other tasks run (but for one in 64, so that a client that
    sends much at once does not keep the others waiting).

    One task receives at a time; a second one that has to wait raises `StreamBusy`. A receive that
    is cancelled has taken nothing.
    """

    #: What the peer has sent, or not, that a receive had to raise for.
    fault: Fault | None = None

    _stream: Stream
    # None until a line, a frame or a count is asked for.
    _buffer: ReceiveBuffer | None = None
    _left_in_a_row = _IN_A_ROW

    # The coroutines below are `async def`s, though what is there needs no waiting: an awaitable
    # that is finished, and hands out a value, costs 0.37 µs in an object of ours, since it has to
    # raise StopIteration. A coroutine that does not suspend costs 0.08 µs, as its frame returns the
    # value to the one that awaits it, and no other task runs.

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Wait for data; return at least 1 and at most `max_bytes` of it.

        ``b""`` is the end of the stream: the peer will send no more. TCP has no messages: what
        was sent at once may come in pieces, and what was sent in pieces at once. None asks for
        what suits the traffic (little at first, up to 256 KiB while reads fill it).
        """
        if self._buffer is None:
            # The layers cost nothing while they have nothing to do.
            return self._stream.recv(max_bytes)
        return self._recv_buffered(max_bytes)

    async def _recv_buffered(self, max_bytes: int | None) -> bytes:
        if self._buffer:
            await self._in_a_row()
            return self._buffer.take(max_bytes or len(self._buffer))
        return await self._stream.recv(max_bytes)

    async def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Wait for data, and put it into `buffer`; return how many bytes that are. 0 is the end of
        the stream. Raises `UsageError` for a buffer that has no room, or is read-only."""
        with memoryview(buffer) as view, view.cast("B") as room:
            if room.readonly:
                raise UsageError("recv_into() needs a buffer that can be written to")
            if not room:
                raise UsageError("recv_into() needs a buffer with room for at least one byte")
            data = await self.recv(len(room))
            room[: len(data)] = data
            return len(data)

    async def recv_exactly(self, size: int) -> bytes:
        """Wait for `size` bytes, and return just these.

        Raises `EndOfStream`, which holds what did come, when the peer ends the stream before.
        """
        buffer = self._buffer or self._own_buffer()
        if buffer.data:
            await self._in_a_row()
        elif size > 0:
            await self._feed(buffer, size)
        while len(buffer) < size:
            await self._feed(buffer, size)
        return buffer.take(size) if size else b""

    async def recv_line(self, max_bytes: int = MAX_LINE) -> bytes:
        """Wait for a line, and return it as it came, with the LF or CRLF that ends it.

        At the end of the stream what is left is returned, without a line ending, and then
        ``b""``. Raises `LineTooLong` as soon as more than `max_bytes` bytes have come without
        a line ending (which is not counted); then what has come stays to be received.
        """
        buffer = self._buffer
        if buffer is None:
            buffer = self._own_buffer()
        if not buffer.data:
            data = await self._stream.recv()
            # Mostly one line comes at a time, and is all that comes. (The end of the stream is such
            # a line, of no bytes.)
            if data.find(b"\n") + 1 == len(data) <= max_bytes:
                return data
            buffer.feed(data)
        else:
            await self._in_a_row()
        try:
            while (line := buffer.next_line(max_bytes)) is None:
                if not (data := await self._stream.recv()):
                    return buffer.take_rest()
                buffer.feed(data)
        except MessageTooLong as error:
            self.fault = error
            raise
        return line

    def lines(self, max_bytes: int = MAX_LINE) -> AsyncIterator[bytes]:
        """Iterate over the lines, each as `recv_line` returns it, until the stream ends."""
        return _LINES(self, max_bytes)

    async def recv_lines(self, max_bytes: int = MAX_LINE) -> list[bytes]:
        """Wait for a line, and return it with all the lines that have come behind it; at most 256.

        Each is as `recv_line` returns it, and so is what is raised. An empty list is the end of the
        stream. So a client that sends many lines at once, and waits for all the answers, gets them
        by one send:

        >>> async def shout(connection):
        ...     while lines := await connection.recv_lines():
        ...         await connection.send_all([line.upper() for line in lines])
        """
        buffer = self._buffer
        if buffer is None:
            buffer = self._own_buffer()
        if not buffer.data:
            data = await self._stream.recv()
            # As in `recv_line`.
            if data.find(b"\n") + 1 == len(data) <= max_bytes:
                return [data] if data else []
            buffer.feed(data)
        line = await self.recv_line(max_bytes)
        if not line:
            return []
        lines = [line]
        try:
            while buffer.data and len(lines) < _MAX_BATCH:
                if (next_line := buffer.next_line(max_bytes)) is None:
                    break
                lines.append(next_line)
        except MessageTooLong:
            pass  # the next call meets it again, when these are answered
        return lines

    async def recv_until(
        self, separator: bytes | Sequence[bytes], *, max_bytes: int = MAX_LINE
    ) -> bytes:
        """Wait for `separator`, or the first of several, and return all up to its end.

        Where several may end at different places, the first of these counts. Raises `EndOfStream`,
        which holds what did come, when the peer ends the stream before; and `MessageTooLong` as
        soon as more than `max_bytes` bytes have come before the separator: then what has come
        stays to be received. `UsageError`: there is no separator, or an empty one.

        >>> async def head_of_a_request(connection):
        ...     return await connection.recv_until(b"\\r\\n\\r\\n", max_bytes=16_384)
        """
        if isinstance(separator, bytes):
            missing = not separator
        else:
            separator = tuple(separator)
            missing = not separator or b"" in separator
        if missing:
            raise UsageError("recv_until() needs a separator of at least one byte")
        buffer = self._buffer or self._own_buffer()
        if buffer:
            await self._in_a_row()
        try:
            while (data := buffer.next_until(separator, max_bytes)) is None:
                await self._feed(buffer)
        except MessageTooLong as error:
            self.fault = error
            raise
        return data

    async def recv_frame(
        self, prefix: Prefix = 4, *, byteorder: ByteOrder = "big", max_bytes: int = MAX_FRAME
    ) -> bytes:
        """Wait for a frame, a message with its length before it, and return it without that.

        `prefix` says how its length is written: as a number of 1, 2, 4 or 8 bytes, in the order
        `byteorder`; or ``"varint"``: as groups of 7 bits, the lowest first, each but the last with
        its highest bit set, as protocol buffers and MQTT have it.

        Raises `FrameTooLong` for more than `max_bytes` bytes, as soon as the length has come;
        `BadFrame` for a varint without an end; and `EndOfStream` when the stream ends before
        the frame does, or before one begins (see `frames`).
        """
        shape = framing(prefix, byteorder, max_bytes)
        frame = await self._recv_frame(shape)
        if frame is None:
            assert self._buffer is not None
            self.fault = EndOfStream(b"", None)
            raise self.fault
        return frame

    async def _recv_frame(self, shape: Framing) -> bytes | None:
        """The next frame; None: the stream has ended well."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._own_buffer()
        try:
            if not buffer.data:
                data = await self._stream.recv()
                if not data:
                    return None
                # Mostly one frame comes at a time, and is all that comes.
                head = shape.head(data, 0)
                if head is not None and head[1] == len(data):
                    return data[head[0] :]
                buffer.feed(data)
            else:
                await self._in_a_row()
            while (frame := buffer.next_frame(shape)) is None:
                await self._feed(buffer)
        except PEER_FAULTS as error:
            self.fault = error
            raise
        return frame

    def frames(
        self, prefix: Prefix = 4, *, byteorder: ByteOrder = "big", max_bytes: int = MAX_FRAME
    ) -> AsyncIterator[bytes]:
        """Iterate over the frames, each as `recv_frame` returns it, until the stream ends.

        Raises what that does, but `EndOfStream` only for a stream that ends within a frame.
        """
        return _Frames(self, framing(prefix, byteorder, max_bytes))

    async def recv_frames(
        self, prefix: Prefix = 4, *, byteorder: ByteOrder = "big", max_bytes: int = MAX_FRAME
    ) -> list[bytes]:
        """Wait for a frame, and return it with all the frames that have come behind it; at most
        256. An empty list is the end of the stream. Raises what `frames` does."""
        shape = framing(prefix, byteorder, max_bytes)
        frame = await self._recv_frame(shape)
        if frame is None:
            return []
        frames = [frame]
        buffer = self._buffer
        assert buffer is not None
        try:
            while buffer and len(frames) < _MAX_BATCH:
                if (next_frame := buffer.next_frame(shape)) is None:
                    break
                frames.append(next_frame)
        except PEER_FAULTS:
            pass  # the next call meets it again, when these are answered
        return frames

    @property
    def buffered(self) -> int:
        """How many bytes are there that a line, a frame or a count has left: the next receive
        begins with them."""
        return len(self._buffer) if self._buffer is not None else 0

    def peek(self, max_bytes: int | None = None) -> bytes:
        """What is buffered now, at most `max_bytes` bytes of it, without waiting and without taking
        it. ``b""``: nothing is; there may be something in the network.

        For a handler that answers a batch of requests by one send: it goes on while there are more.
        """
        return self._buffer.peek(max_bytes) if self._buffer is not None else b""

    def unread(self, data: bytes) -> None:
        """Put `data` back: the next receive begins with it. To be called while no task receives."""
        (self._buffer or self._own_buffer()).unread(data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.recv()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    # -- within ----------------------------------------------------------------------------------

    async def _feed(self, buffer: ReceiveBuffer, expected: int | None = None) -> None:
        """Receive into `buffer`. Raises `EndOfStream` when the stream has ended."""
        data = await self._stream.recv()
        if not data:
            self.fault = EndOfStream(buffer.take_rest(), expected)
            raise self.fault
        buffer.feed(data)

    def _in_a_row(self) -> Awaitable[None]:
        """Something is there: mostly, there is nothing to wait for."""
        self._left_in_a_row -= 1
        return FINISHED if self._left_in_a_row else self._let_others_run()

    async def _let_others_run(self) -> None:
        # Called before anything is taken, so that a receive that is cancelled here loses nothing;
        # and even if it has waited for the network, which lets no other task run where there is
        # always more.
        self._left_in_a_row = _IN_A_ROW
        await current_engine().sleep(0)

    def _own_buffer(self) -> ReceiveBuffer:
        if self._buffer is None:
            self._buffer = ReceiveBuffer()
        return self._buffer


class _NextLine:
    """What an iterator over lines does: see `Receiving.lines`."""

    __slots__ = ()

    _connection: Receiving
    _max_bytes: int

    async def _next(self) -> bytes:
        # As `recv_line`, but for what is seldom: a coroutine less, 0.3 µs of 7 that a line takes.
        connection, max_bytes = self._connection, self._max_bytes
        buffer = connection._buffer
        if buffer is not None:
            if not buffer.data:
                data = await connection._stream.recv()
                if data.find(b"\n") + 1 == len(data) <= max_bytes and data:
                    return data
                return await self._otherwise(data)
            if connection._left_in_a_row > 1:
                connection._left_in_a_row -= 1
                try:
                    if (line := buffer.next_line(max_bytes)) is not None:
                        return line
                except MessageTooLong:
                    pass  # `recv_line` meets it again, and notes it
        return await self._line()

    async def _otherwise(self, data: bytes) -> bytes:
        """What has come into an empty buffer is no line, or more."""
        if not data:
            raise StopAsyncIteration
        self._connection._own_buffer().feed(data)
        return await self._line()

    async def _line(self) -> bytes:
        line = await self._connection.recv_line(self._max_bytes)
        if not line:
            raise StopAsyncIteration
        return line


class Lines(_NextLine):
    """The iterator that `Receiving.lines` returns."""

    __slots__ = ("_connection", "_max_bytes")

    def __init__(self, connection: Receiving, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes

    def __aiter__(self) -> Self:
        return self

    __anext__ = _NextLine._next


def compiled_lines(fast: Any) -> type[Lines]:
    """`Lines`, where the module `fast` is in use: a line that comes alone needs no coroutine."""

    class CompiledLines(_NextLine, fast.Lines):  # type: ignore[misc]
        __slots__ = ()

    return CompiledLines


_LINES = Lines if fast is None else compiled_lines(fast)


class _Frames:
    """The iterator that `Receiving.frames` returns."""

    __slots__ = ("_connection", "_framing")

    def __init__(self, connection: Receiving, shape: Framing) -> None:
        self._connection = connection
        self._framing = shape

    def __aiter__(self) -> _Frames:
        return self

    async def __anext__(self) -> bytes:
        connection, framing = self._connection, self._framing
        buffer = connection._buffer
        if buffer is not None and not buffer.data:
            data = await connection._stream.recv()
            if not data:
                raise StopAsyncIteration
            # Mostly one frame comes at a time, and is all that comes. Without `Framing.head`, and
            # a coroutine less: 0.4 µs of 8 that a frame takes.
            size = framing.prefix
            if size and (
                int.from_bytes(data[:size], framing.byteorder) == len(data) - size
                and len(data) <= framing.max_bytes + size
            ):
                return data[size:]
            buffer.feed(data)
        frame = await connection._recv_frame(framing)
        if frame is None:
            raise StopAsyncIteration
        return frame
