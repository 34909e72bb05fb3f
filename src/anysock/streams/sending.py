"""The sending half of a `Connection`: bytes, pieces, frames and files."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Iterator, Sequence
from typing import IO, TypeAlias

from anysock.engines.base import Data, Keepalive, Stream
from anysock.engines.current import current_engine
from anysock.errors import UsageError
from anysock.net.frames import ByteOrder, Prefix, framing

#: What `Sending.send_all` sends: bytes, or pieces that are sent as one.
Sendable: TypeAlias = Data | Sequence[Data]

# Up to this many bytes of pieces are joined where the stream takes one piece at a time; and a file
# is read by so many.
_MOST_JOINED = 262_144


class Sending:
    """What a handler may send, and how.

    One task sends at a time; a second one raises `StreamBusy`. A send that is cancelled has
    either sent nothing, or every later one raises `StreamBroken`: the peer would take what
    follows for the rest of it.
    """

    _stream: Stream

    def send_all(self, data: Sendable) -> Awaitable[None]:
        """Send all of `data`; return when the last byte is handed to the operating system.

        While the peer does not read, this waits. So a handler that sends before it receives
        again can't be made to hold more than one chunk. `data` is bytes, or a bytearray or
        memoryview of bytes that stays as it is until then; or a list or tuple of such pieces,
        which are sent as one: by one system call where the engine has it (writev(2)), and without a
        copy of what is large.
        """
        if isinstance(data, (list, tuple)):
            return self._send_list(data)
        return self._stream.send_all(data)  # type: ignore[arg-type]

    def _send_list(self, pieces: Sequence[Data]) -> Awaitable[None]:
        """Send `pieces` as one."""
        if self._stream.vectored:
            return self._stream.send_all(pieces)  # type: ignore[arg-type]
        if sum(map(len, pieces)) > _MOST_JOINED:
            return self._send_pieces(pieces)
        return self._stream.send_all(b"".join(pieces))

    async def _send_pieces(self, pieces: Sequence[Data]) -> None:
        """Send `pieces` by a stream that takes one at a time."""
        gone = False
        try:
            for data in _gathered(pieces):
                await self._stream.send_all(data)
                gone = True
        except BaseException:
            if gone:
                self._stream.break_sending()
            raise

    def send_frame(
        self, data: Data, prefix: Prefix = 4, *, byteorder: ByteOrder = "big"
    ) -> Awaitable[None]:
        """Send `data` as a frame, with its length before it, as `Connection.recv_frame` takes it.

        Raises `UsageError` for more bytes than the prefix can say.
        """
        size = len(data)
        if prefix in _NUMBERS and size < 256:
            head = size.to_bytes(prefix, byteorder)
        else:
            head = framing(prefix, byteorder, 0).prefixed(size)
        if size <= _SMALL_FRAME:
            return self.send_all(head + data)
        return self.send_all((head, data))

    async def send_file(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send `count` bytes of `file` from `offset` on, or all that follows; return how many there
        were: fewer, if the file ends before.

        `file` is a regular file that is open for reading in binary mode; its position does not
        matter, and stays. Where the stream is plain, the kernel sends it without a copy
        (sendfile(2)); elsewhere, as with TLS, it is read on another thread. Otherwise as
        `send_all`.

        Raises `UsageError` for what is no regular file: send what you read from it; and for one
        that is not open for reading.
        """
        try:
            fd = file.fileno()
            known = os.fstat(fd)
            readable = file.readable()
        except (AttributeError, OSError, ValueError) as error:
            raise UsageError(f"send_file() needs an open file: {error}") from None
        if not stat.S_ISREG(known.st_mode):
            raise UsageError("send_file() needs a regular file: of others, send what you read")
        if not readable:
            raise UsageError("send_file() needs a file that is open for reading")
        if offset < 0 or (count is not None and count < 0):
            raise UsageError("send_file() needs an offset and a count of 0 or more")
        left = max(known.st_size - offset, 0)
        count = left if count is None else min(count, left)
        sending = self._stream.send_file(fd, offset, count)
        if sending is not None:
            return await sending
        return await self._read_and_send(fd, offset, count)

    async def _read_and_send(self, fd: int, offset: int, count: int) -> int:
        engine, gone = current_engine(), 0
        try:
            while gone < count:
                most = min(count - gone, _MOST_JOINED)
                data = await engine.to_thread(os.pread, fd, most, offset + gone)
                if not data:
                    break
                await self._stream.send_all(data)
                gone += len(data)
        except BaseException:
            if gone:
                self._stream.break_sending()
            raise
        return gone

    async def send_eof(self) -> None:
        """Half-close: tell the peer that no more will be sent. It may still send."""
        await self._stream.send_eof()

    def keepalive(self, idle: int | None = 60, *, interval: int = 10, probes: int = 6) -> None:
        """Let TCP notice a peer that is gone without a word (tcp(7)): when it has been silent for
        `idle` seconds, it is asked every `interval` seconds, and after `probes` questions without
        an answer the connection is lost, with ETIMEDOUT. None: not any more.

        Without it, a connection on which nothing is sent stays open for ever when the peer's
        machine has lost its power. On a Unix socket it does nothing. Raises `UsageError` for
        numbers that the system refuses.
        """
        try:
            self._stream.set_keepalive(None if idle is None else Keepalive(idle, interval, probes))
        except (OSError, OverflowError, TypeError) as error:
            told = f"keepalive(idle={idle}, interval={interval}, probes={probes})"
            raise UsageError(f"{told}: the system refuses it: {error}") from None


def _gathered(pieces: Sequence[Data]) -> Iterator[Data]:
    """`pieces`, with neighbours joined up to `_MOST_JOINED` bytes; a larger one as it is."""
    near: list[Data] = []
    size = 0
    for piece in pieces:
        if near and size + len(piece) > _MOST_JOINED:
            yield near[0] if len(near) == 1 else b"".join(near)
            near, size = [], 0
        near.append(piece)
        size += len(piece)
    if near:
        yield near[0] if len(near) == 1 else b"".join(near)


# The prefixes that are numbers. What fits into the shortest fits into all.
_NUMBERS = (4, 2, 1, 8)

# A frame of at most so many bytes is sent with its prefix as one piece.
_SMALL_FRAME = 65_536
