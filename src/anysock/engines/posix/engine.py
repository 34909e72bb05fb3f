"""What every engine on the machine's own sockets does alike: listening, connecting, UDP.

How a task waits for a socket is each engine's own, and so are the hooks below.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence

from anysock.engines.base import Binding, Datagrams, Listener, Machine, Pauses, SockAddr, Stream
from anysock.engines.posix.datagrams import adopt_datagrams, open_datagrams
from anysock.engines.posix.listening import ListeningSocket, no_delay, open_sockets
from anysock.engines.posix.machine import MACHINE
from anysock.engines.posix.streams import bind_source, name_of_peer


class PosixEngine:
    """The part of `Engine` that is the same for all of them."""

    machine: Machine = MACHINE

    def __init__(self) -> None:
        self.pauses = Pauses()

    # -- each engine's own -----------------------------------------------------------------------

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[Listener]:
        """As many listeners as the engine wants accept loops."""
        raise NotImplementedError

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        """Connect `sock`, which does not block. Raises OSError."""
        raise NotImplementedError

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        """The stream over `sock`, which is connected."""
        raise NotImplementedError

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        raise NotImplementedError

    # -- as `Engine` says ------------------------------------------------------------------------

    def listen(
        self, bindings: Sequence[Binding], backlog: int, socket_buffer: int | None = None
    ) -> Sequence[Listener]:
        return self._listeners(open_sockets(bindings, backlog, socket_buffer))

    async def connect(
        self, family: socket.AddressFamily, address: SockAddr, *, local: SockAddr | None = None
    ) -> Stream:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            no_delay(sock)
            if local is not None:
                bind_source(sock, local)
            await self._connect(sock, address)
            return await self._stream(sock, name_of_peer(sock, address))
        except BaseException:
            sock.close()
            raise

    def open_datagrams(
        self, family: socket.AddressFamily, address: SockAddr, *, connect: bool = False
    ) -> Datagrams:
        return self._datagrams(open_datagrams(family, address, connect=connect))

    def adopt_datagrams(self, fd: int) -> Datagrams:
        return self._datagrams(adopt_datagrams(fd))

    def past_cancellations(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()  # a task of ours gets each once

    def time(self) -> float:
        return time.time()
