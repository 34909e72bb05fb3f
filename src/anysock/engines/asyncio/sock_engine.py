"""The engine `asyncio-sock`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

from anysock.engines.asyncio.engine import AsyncioBase
from anysock.engines.asyncio.sock_listener import SockListener, accept_peer, keep_outcome
from anysock.engines.asyncio.sock_streams import SockDatagrams, SockStream
from anysock.engines.base import Datagrams, SockAddr, Stream
from anysock.engines.posix.listening import ListeningSocket, accepted


class AsyncioSockEngine(AsyncioBase):
    """asyncio's loop, by its socket methods: as a server does that is written on them by hand."""

    name = "asyncio-sock"

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[SockListener]:
        return [SockListener(listening) for listening in opened]

    async def accept(self, listener: SockListener) -> Stream:
        # In a task of its own, which outlives a cancellation of the task that waits for it: a
        # cancelled sock_accept may lose the peer that it has just accepted (cpython 153761). So
        # that one is there for the next call.
        pending = listener.pending
        if pending is None:
            pending = listener.pending = asyncio.create_task(self._next_peer(listener))
            pending.add_done_callback(keep_outcome)
        await asyncio.wait((pending,))
        listener.pending = None
        return pending.result()

    async def _next_peer(self, listener: SockListener) -> Stream:
        try:
            if listener.closed:
                sock, peer = listener.next_waiting()
            else:
                sock, peer = await accept_peer(listener)
        except (OSError, asyncio.CancelledError):
            if not listener.closed:
                raise
            sock, peer = listener.next_waiting()
        finally:
            if listener.closed:
                listener.listening.close()
        accepted(sock, blocking=False)
        return await self._stream(sock, peer)

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return SockStream(self, sock, peer)

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            # asyncio puts words of its own in the place of the reason.
            raise OSError(error.errno, os.strerror(error.errno or 0)) from None

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return SockDatagrams(sock)
