"""The `uvloop` engine: libuv's loop, through its transports.

libuv reads on its own account and calls back with what has come; a task that wants it waits for
the callback. So that a peer can't fill our memory, reading is paused while a task is behind.
(uvloop has asyncio's socket methods, too, but they are its slowest way.)
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import time
from typing import TypeVar, cast

import uvloop

from anysock.engines.asyncio.engine import AsyncioEngine
from anysock.engines.base import Data, SockAddr, Stream
from anysock.engines.posix.streams import LINGER_SECONDS, AwaitingStream, whole
from anysock.errors import AnysockError

T = TypeVar("T")

# How much may have come that no task has asked for, in bytes, before reading is paused.
MAX_UNASKED = 65536


class UvloopStream(AwaitingStream, asyncio.Protocol):
    """A `Stream` over a transport of libuv, which calls the methods of `asyncio.Protocol`."""

    _transport: asyncio.Transport

    def __init__(self, engine: UvloopEngine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._loop = asyncio.get_running_loop()
        self._chunks: collections.deque[bytes] = collections.deque()
        self._unasked = 0
        self._reading_paused = False
        self._writing_paused = False
        self._eof = False  # the peer's end of the stream
        self._failure: OSError | None = None
        self._receiver: asyncio.Future[None] | None = None
        self._sender: asyncio.Future[None] | None = None
        self._gone = self._loop.create_future()

    # -- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # With this, a write goes to the kernel at once, and `pause_writing` is called when it did
        # not take all.
        self._transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._unasked += len(data)
        if self._unasked >= MAX_UNASKED:
            self._reading_paused = True
            self._transport.pause_reading()
        _wake(self._receiver)

    def eof_received(self) -> bool:
        self._eof = True
        _wake(self._receiver)
        return True  # our end stays open

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        _wake(self._sender)

    def connection_lost(self, error: Exception | None) -> None:
        self._eof = True
        if isinstance(error, OSError):
            self._failure = error
        _wake(self._receiver)
        _wake(self._sender)
        if not self._gone.done():
            self._gone.set_result(None)

    # -- what the handler calls ------------------------------------------------------------------

    async def recv(self, max_bytes: int | None = None) -> bytes:
        await self._begin_receiving()
        try:
            while not self._chunks:
                self._state.check_receive()
                if self._failure is not None:
                    raise self._explain(self._failure)
                if self._eof:
                    return self._received_nothing()
                self._receiver = self._loop.create_future()
                try:
                    await self._receiver
                finally:
                    self._receiver = None
            self._state.check_receive()
        finally:
            self._receiving = False
        asked = max_bytes or self._max_recv_size
        data = self._chunks.popleft()
        if len(data) > asked:
            self._chunks.appendleft(data[asked:])
            data = data[:asked]
        self._unasked -= len(data)
        self.bytes_received += len(data)
        if self._reading_paused and self._unasked < MAX_UNASKED:
            self._reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def send_all(self, data: Data) -> None:
        self._check_failure()
        await self._begin_sending()
        try:
            self._check_failure()
            self._transport.write(data)
            if self._writing_paused:
                await self._until_room(whole(data))
        finally:
            self._sending = False
        self.bytes_sent += len(data)

    async def _until_room(self, size: int) -> None:
        self._sender = self._loop.create_future()
        self.unsent = size
        try:
            with self._engine.pauses:
                while self._writing_paused and not self._gone.done():
                    self._sender = self._loop.create_future()
                    await self._sender
        except asyncio.CancelledError:
            self._state.give_up_send(None)
            raise
        finally:
            self._sender = None
            self.unsent = 0
        self._check_failure()
        self._state.check_send()

    def _check_failure(self) -> None:
        """Raise the error with which libuv has reported the loss of the peer."""
        if self._failure is not None and not self._state.closed:
            raise self._explain(self._failure)

    def _end_sending(self) -> None:
        self._check_failure()
        self._state.end_sending()
        if not self._transport.is_closing():
            self._transport.write_eof()

    @property
    def held(self) -> int:
        # What a send that was cancelled has left is still with the transport.
        left = 0 if self._state.closed else self._transport.get_write_buffer_size()
        return self._unasked + max(self.unsent, left)

    def progress(self) -> int:
        # What is sent is with the transport, until the socket takes it.
        left = 0 if self._state.closed else self._transport.get_write_buffer_size()
        return super().progress() - left

    def abort(self) -> None:
        super().abort()
        _wake(self._receiver)
        self._writing_paused = False
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it would go on sending

    def _wake_sender(self) -> None:
        _wake(self._sender)

    async def _let_go(self) -> None:
        # As SocketStream does it; but what has come unasked is here, not in the socket.
        if self._eof or not (self._chunks or self.bytes_received):
            return
        with contextlib.suppress(OSError, AnysockError):
            self._end_sending()
            async with self._engine.scope(LINGER_SECONDS):
                while await self.recv():
                    pass

    async def _release(self) -> None:
        # What was sent is with the kernel, but for what a cancelled send has left.
        if self._state.aborted or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        _wake(self._receiver)
        _wake(self._sender)
        # The transport closes the socket in the next iteration of the loop.
        await asyncio.shield(self._gone)
        self._sock.close()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class UvloopEngine(AsyncioEngine):
    """uvloop in asyncio's place, with transports."""

    name = "uvloop"

    _loop_factory = staticmethod(uvloop.new_event_loop)

    def now(self) -> float:
        # libuv's clock is that of the beginning of its iteration, in whole milliseconds.
        return time.monotonic()

    async def connect(
        self, family: socket.AddressFamily, address: SockAddr, *, local: SockAddr | None = None
    ) -> Stream:
        # uvloop looks up what is an address already, by its host and port alone: the interface of a
        # link-local one would be lost.
        if not isinstance(address, str) and len(address) > 3 and address[3]:
            address = (f"{address[0].partition('%')[0]}%{address[3]}", *address[1:])
        return await super().connect(family, address, local=local)

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        stream = UvloopStream(self, sock, peer)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: stream, sock)
        return stream
