"""Non-blocking sockets, and the tasks that wait for them: under our own loop, and asyncio's."""

from __future__ import annotations

import errno
import os
import socket
import types
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from anysock.engines.base import Data, Engine, SockAddr
from anysock.engines.finished import FINISHED
from anysock.engines.nonblocking.pacing import NOT_NOW, NOT_YET, PacedStream
from anysock.engines.nonblocking.watching import Watch
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.streams import (
    IOV_MAX,
    MAX_JOINED,
    MAX_SEND_SIZE,
    whole,
)
from anysock.loop.kernel import Kernel
from anysock.loop.tasks import Task, Wait, suspend

# On a socket, read(2) and write(2) do what recv(2) and send(2) do (socket(7)). Python's functions
# for them take their arguments without a tuple, and know nothing of timeouts: 0.1 µs a message
# less.
read = os.read
write = os.write


class NonblockingStream(PacedStream):
    """A `Stream` over a non-blocking socket, for tasks of the loop of `watch`."""

    vectored = True

    __slots__ = ("_readable", "descriptor")

    def __init__(
        self, engine: Engine, watch: Watch, sock: socket.socket, peer: SockAddr | None
    ) -> None:
        super().__init__(engine, sock, peer)
        self._watch = watch
        self.descriptor = watch.watch(self._fd)
        # One wait for all receives: our kernel knows it again, and has nothing to do.
        self._readable = self.descriptor.readable()

    @property
    def receiving(self) -> bool:
        return self.descriptor.has_reader

    @property
    def sending(self) -> bool:
        return self.descriptor.has_writer

    # `recv` and `send_all` are the path that each message takes: a hundred nanoseconds here are
    # two percent of all that a message costs, the kernel's share included.

    @types.coroutine
    def recv(self, max_bytes: int | None = None) -> Generator[Wait, None, bytes]:
        # A generator, and not an object with `__await__` and `__next__`, which would be made once
        # a stream: the interpreter resumes a generator, and takes its result, without a call and
        # without a StopIteration (0.17 against 0.39 µs a message, measured alone).
        if self._more:
            return (yield from self._recv_more(max_bytes))
        # Receiving first and pausing on EAGAIN would cost a system call and an exception for
        # each message (1.4 µs): after a short read the socket is empty, so wait first.
        yield self._readable
        asked = max_bytes or self._recv_size
        while True:
            try:
                data = read(self._fd, asked)
                break
            except BlockingIOError:
                yield self._readable
            except OSError as error:
                raise self._explain(error) from None
        size = len(data)
        self.bytes_received += size
        if 0 < size < asked:
            return data
        self._more = True
        if not size:
            return self._received_nothing()
        self._grow(asked)
        return data

    @types.coroutine
    def _recv_more(self, max_bytes: int | None) -> Generator[Wait, None, bytes]:
        """The last receive was filled, or there was none: try first."""
        if self._state.receiving_over:
            return self._received_nothing()
        asked = max_bytes or self._recv_size
        # A peer that never pauses must not keep the loop: every so often, wait for the poller
        # like the others. 64 KiB to copy take as long as an operation does besides.
        wait = not self._may_go_on(1 + (asked >> 16)) and self._fd >= 0
        while True:
            try:
                if wait:
                    # A second task must not try, but meet the first one that waits.
                    self._more = False
                    yield self._readable
                data = read(self._fd, asked)
                break
            except BlockingIOError:
                wait = True
            except OSError as error:
                self._more = True
                raise self._explain(error) from None
        size = len(data)
        self.bytes_received += size
        if 0 < size < asked:
            self._more = False
            return data
        self._more = True
        if not size:
            return self._received_nothing()
        self._grow(asked)
        return data

    def send_all(self, data: Data) -> Awaitable[None]:
        try:
            sent = write(self._write_fd, data)
        except BlockingIOError:
            sent = 0
        except TypeError:
            if not isinstance(data, (list, tuple)):
                raise
            return self._send_pieces(data)
        except OSError as error:
            if self._write_fd != NOT_YET:
                raise self._explain(error) from None
            return self._send_in_turn(data)
        self.bytes_sent += sent
        if sent == len(data):
            self._budget -= 1
            if not (self._budget or self._may_go_on(0)):
                # The others first. But not here: what is sent can't be taken back, should the
                # task be cancelled meanwhile.
                self._write_fd = NOT_YET
            return FINISHED
        self._write_fd = NOT_NOW
        return self._send_rest(memoryview(data)[sent:], sent)

    def _send_pieces(self, pieces: Sequence[Data]) -> Awaitable[None]:
        """Send all the pieces as one."""
        if len(pieces) == 1:
            return self.send_all(pieces[0])
        if sum(map(len, pieces)) <= MAX_JOINED:
            return self.send_all(b"".join(pieces))
        return self._send_vector([memoryview(piece).cast("B") for piece in pieces if len(piece)])

    async def _send_vector(self, pieces: list[memoryview]) -> None:
        gone = at = 0
        try:
            while at < len(pieces):
                full = False
                try:
                    sent = os.writev(self._write_fd, pieces[at : at + IOV_MAX])
                except BlockingIOError:
                    sent, full = 0, True
                except OSError as error:
                    await self._after_error(error)
                    continue
                self.bytes_sent += sent
                gone += sent
                while at < len(pieces) and sent >= len(pieces[at]):
                    sent -= len(pieces[at])
                    at += 1
                if at == len(pieces):
                    return
                if sent or full:
                    # The rest of this piece, as if it were sent alone.
                    rest = pieces[at][sent:]
                    self._write_fd = NOT_NOW
                    await self._send_rest(rest, gone)
                    gone += len(rest)
                    at += 1
                elif not self._may_go_on():
                    await self._pause_sending(self._engine.sleep(0))
        except self._engine.cancellations:
            self._give_up(gone)
            raise

    def send_file(self, fd: int, offset: int, count: int) -> Awaitable[int] | None:
        return self._send_file(fd, offset, count)

    async def _send_file(self, fd: int, offset: int, count: int) -> int:
        gone = 0
        try:
            while gone < count:
                most = min(count - gone, MAX_SEND_SIZE)
                try:
                    sent = os.sendfile(self._write_fd, fd, offset + gone, most)
                except BlockingIOError:
                    with self._engine.pauses:
                        await self._pause_sending(suspend(self.descriptor.writable()))
                    continue
                except OSError as error:
                    if error.errno == errno.EBADF and self._write_fd >= 0:
                        raise  # the file was closed meanwhile
                    await self._after_error(error)
                    continue
                if not sent:
                    break  # the file is shorter
                self.bytes_sent += sent
                gone += sent
                if not self._may_go_on():
                    await self._pause_sending(self._engine.sleep(0))
        except BaseException:  # also what the file has met, as EIO
            self._give_up(gone)
            raise
        return gone

    async def _after_error(self, error: OSError) -> None:
        """Raise what a send has met, if it is not that the others must run first."""
        if self._write_fd != NOT_YET:
            raise self._explain(error) from None
        await self._pause_sending(self._engine.sleep(0))

    async def _pause_sending(self, pause: Awaitable[None]) -> None:
        """Wait within a send, which no other may enter meanwhile."""
        self._write_fd = NOT_NOW
        try:
            await pause
        finally:
            self._let_send()
        self._state.check_send()

    def _give_up(self, gone: int | None) -> None:
        self._state.give_up_send(gone)
        if self._state.cut_short:
            self._write_fd = NOT_NOW

    def break_sending(self) -> None:
        self._give_up(None)

    async def _send_rest(self, data: memoryview, gone: int) -> None:
        """The peer reads more slowly than we send: `gone` bytes have gone, this is the rest."""
        self.unsent = whole(data)
        try:
            with self._engine.pauses:
                while data:
                    self._state.check_send()
                    try:
                        await suspend(self.descriptor.writable())
                    except self._engine.cancellations:
                        self._state.give_up_send(gone)
                        raise
                    self._state.check_send()  # it may have been woken for that
                    try:
                        sent = write(self._fd, data)
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        raise self._explain(error) from None
                    self.bytes_sent += sent
                    gone += sent
                    data = data[sent:]
        finally:
            self.unsent = 0
            self._let_send()

    def _let_send(self) -> None:
        """The one task that was sending does so no more."""
        if not (self._state.cut_short or self._state.end_sent):
            self._write_fd = self._fd  # which is none once it is aborted, or closed

    def _end_sending(self) -> None:
        self._write_fd = NOT_NOW
        super()._end_sending()

    def abort(self) -> None:
        super().abort()
        # What has arrived is not received either.
        self._more = True
        self._fd = self._write_fd = NOT_NOW

    def _wake_sender(self) -> None:
        self.descriptor.wake_writer()

    async def _release(self) -> None:
        self.descriptor.close()
        # A task that comes now must meet the closed socket, and not the poller, or what the number
        # belongs to next: an error, EBADF.
        self._more = True
        self._fd = self._write_fd = NOT_NOW
        # (Whoever waited is woken: nobody sleeps in the system, who would have to be.)
        self._sock.close()


def compiled_stream(fast: Any) -> type[NonblockingStream]:
    """`NonblockingStream`, with the compiled `recv` and `send_all` of the module `fast`. They do
    what those here do where nothing is out of the ordinary, and call the others where it is."""

    class CompiledStream(NonblockingStream):
        __slots__ = ()

    methods = fast.bind(CompiledStream, Task, Kernel, FINISHED, NOT_NOW, NOT_YET)
    CompiledStream.recv, CompiledStream.send_all = methods  # type: ignore[method-assign]
    return CompiledStream


class NonblockingDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of the loop of `watch`."""

    def __init__(self, watch: Watch, sock: socket.socket) -> None:
        super().__init__(sock)
        self._descriptor = watch.watch(sock.fileno())
        self._readable = self._descriptor.readable()

    async def _until_readable(self) -> None:
        await suspend(self._readable)

    def _wake(self) -> None:
        self._descriptor.close()
