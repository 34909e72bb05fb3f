"""Sockets, by the socket methods of asyncio's running loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import types
from collections.abc import Generator
from typing import Any, cast

from anysock.engines.base import Data, Engine, SockAddr
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.streams import MAX_SEND_SIZE, AwaitingStream, whole
from anysock.errors import StreamAborted


class SockStream(AwaitingStream):
    """A `Stream` over a non-blocking socket, for tasks of asyncio's running loop."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._loop = asyncio.get_running_loop()
        self._kept: asyncio.Future[bytes] | None = None
        # What a send waits for, while it waits for its peer.
        self._room: asyncio.Future[None] | None = None

    async def recv(self, max_bytes: int | None = None) -> bytes:
        await self._begin_receiving()
        try:
            asked = max_bytes or self._recv_size
            over = self._state.receiving_over
            data = b"" if over else await self._kept_or_received(asked)
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._receiving = False
        size = len(data)
        if not size or self._state.aborted:
            return self._received_nothing()
        self.bytes_received += size
        if size == asked:
            self._grow(asked)
        return data

    @types.coroutine
    def _kept_or_received(self, asked: int) -> Generator[Any, Any, bytes]:
        """``loop.sock_recv``, with nothing lost when its task is cancelled.

        The loop receives first and resumes the task an iteration later. Cancelled in between,
        asyncio drops what the future holds (as in cpython 153761). So the future is taken as it
        passes by here, and what it has brought is kept for the next receive: bytes, or the error.
        """
        future, self._kept = self._kept, None
        if future is None:
            receive = self._loop.sock_recv(self._sock, asked)
            try:
                future = receive.send(None)
            except StopIteration as done:
                return cast("bytes", done.value)
            try:
                yield future
            except BaseException:
                if future.done() and not future.cancelled():
                    self._kept = future
                    future.exception()  # an error, too, is kept; asyncio need not complain of it
                raise
            finally:
                receive.close()
        data = future.result()
        if len(data) > asked:
            self._kept = self._loop.create_future()
            self._kept.set_result(data[asked:])
        return data[:asked]

    async def send_all(self, data: Data) -> None:
        await self._begin_sending()
        try:
            try:
                if len(data) > MAX_SEND_SIZE:
                    data = await self._sent_but_the_last(memoryview(data))
                await self._sent(data)
            except asyncio.CancelledError:
                self._state.give_up_send(None)  # asyncio does not say how much has gone
                raise
            except OSError as error:
                raise self._explain(error) from None
        finally:
            self._sending = False
        self.bytes_sent += len(data)

    async def _sent_but_the_last(self, data: memoryview) -> memoryview:
        """Send `data` in pieces, all but the last, which is returned."""
        while len(data) > MAX_SEND_SIZE:
            await self._sent(data[:MAX_SEND_SIZE])
            self.bytes_sent += MAX_SEND_SIZE
            data = data[MAX_SEND_SIZE:]
            await self._let_others_run()
        return data

    @types.coroutine
    def _sent(self, data: Data) -> Generator[Any, Any, None]:
        """``loop.sock_sendall``, with its wait counted if it has to."""
        self._state.check_send()  # it may have been aborted between two pieces
        send = self._loop.sock_sendall(self._sock, data)
        try:
            self._room = future = send.send(None)
        except StopIteration:
            return
        self.unsent = whole(data)
        try:
            with self._engine.pauses:
                yield future
                yield from send.__await__()
        finally:
            self._room = None
            self.unsent = 0
            send.close()

    def _wake_sender(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_exception(StreamAborted("aborted on our side"))

    async def _release(self) -> None:
        if self.receiving or self._sending:
            # asyncio must not be left with a descriptor that it watches and we have closed: the
            # number may be another's by then (uvloop 100). Shut down, or aborted, both end by
            # themselves.
            if not self._state.aborted:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
            while self.receiving or self._sending:
                await asyncio.sleep(0)
        await super()._release()


class SockDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of asyncio's running loop."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    async def _until_readable(self) -> None:
        # Not a datagram endpoint of asyncio's: its queue takes what comes without bound.
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._closed:
                self._loop.remove_reader(self._sock.fileno())

    def _wake(self) -> None:
        if self._waiter is not None:
            # Also when the task was cancelled, and has not run since: the number of a descriptor
            # that is closed while the loop watches it is never watched again, whosever it is then.
            self._loop.remove_reader(self._sock.fileno())
            if not self._waiter.done():
                self._waiter.set_result(None)
