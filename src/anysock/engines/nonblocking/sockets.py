"""Listening, accepting and connecting by non-blocking sockets: the same under our own loop and
asyncio's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from typing import cast

from anysock.engines.base import Datagrams, Engine, SockAddr, Stream
from anysock.engines.nonblocking.streams import (
    NonblockingDatagrams,
    NonblockingStream,
    compiled_stream,
)
from anysock.engines.nonblocking.watching import Watch
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import ListeningSocket, SocketListener, accepted
from anysock.errors import StreamClosed
from anysock.loop.tasks import suspend
from anysock.machine.compiled import fast
from anysock.machine.listening_socket import compiled_accept

_STREAM = NonblockingStream if fast is None else compiled_stream(fast)


class _Listener(SocketListener):
    def __init__(self, watch: Watch, listening: ListeningSocket, *, blocking: bool) -> None:
        super().__init__(listening)
        self._blocking = blocking
        self.accept = compiled_accept(self.sock, blocking=blocking) or self._accept
        self._descriptor = watch.watch(self.sock.fileno())
        self.readable = self._descriptor.readable()

    def _accept(self) -> tuple[socket.socket, SockAddr]:
        """A peer, and its address."""
        sock, peer = self.sock.accept()
        accepted(sock, blocking=self._blocking)
        return sock, peer

    def next_waiting(self) -> tuple[socket.socket, SockAddr]:
        sock, peer = super().next_waiting()
        accepted(sock, blocking=self._blocking)
        return sock, peer

    def close(self) -> None:
        self._descriptor.close()
        self.accept = self._accept  # which knows that it is closed
        super().close()


class SocketsEngine(PosixEngine):
    """The part of an `Engine` that is sockets which are watched."""

    #: Whether connected sockets block.
    blocking_sockets = False

    @property
    def watch(self) -> Watch:
        """What watches them."""
        raise NotImplementedError

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[_Listener]:
        return [
            _Listener(self.watch, listening, blocking=self.blocking_sockets) for listening in opened
        ]

    async def accept(self, listener: _Listener) -> Stream:
        # Waiting first, even if more are in the backlog: peers mostly come one by one, and then a
        # try more costs a system call and an exception; where they come in a crowd, the poller's
        # answer costs no more than these.
        while not listener.closed:
            try:
                await suspend(listener.readable)
            except StreamClosed:
                continue
            try:
                sock, peer = listener.accept()
                break
            except BlockingIOError:
                continue
            except OSError:
                if not listener.closed:
                    raise
        else:
            sock, peer = listener.next_waiting()
        return self._made(sock, peer)

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await self._connected(sock)
        elif code:
            # EAGAIN: a Unix socket whose backlog is full, which no poller reports.
            raise OSError(code, os.strerror(code))

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return self._made(sock, peer)

    def _made(self, sock: socket.socket, peer: SockAddr) -> Stream:
        """The stream over a connected socket."""
        return _STREAM(cast(Engine, self), self.watch, sock, peer)

    async def _connected(self, sock: socket.socket) -> None:
        """Wait until the handshake that `sock` has begun is over; raise OSError if it failed."""
        descriptor = self.watch.watch(sock.fileno())
        try:
            while True:
                await suspend(descriptor.writable())
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                # Under `polling` a wait may end before its time: only a peer proves it.
                with contextlib.suppress(OSError):
                    sock.getpeername()
                    return
        finally:
            descriptor.close()

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return NonblockingDatagrams(self.watch, sock)
