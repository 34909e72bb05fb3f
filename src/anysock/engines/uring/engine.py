"""The engine: our own loop, whose poller is a pair of rings."""

from __future__ import annotations

import socket
from typing import Any, cast

from anysock.engines.base import Engine, SockAddr, Stream
from anysock.engines.nonblocking.engine import NonblockingEngine
from anysock.engines.uring.available import module
from anysock.engines.uring.streams import UringStream


class RingPoller:
    """A ring, as our kernel's poller (`loop.pollers.Poller`)."""

    def __init__(self) -> None:
        self.ring = module().Ring()
        self.kernel: Any = None
        self.register = self.ring.register
        self.modify = self.ring.modify
        self.unregister = self.ring.unregister
        self.close = self.ring.close
        #: What has a whole turn, with the steps of the tasks; and what that sleeps on.
        self.compiled, self.sleeps_on = module(), self.ring

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """For who watches the loop: tasks whose operations are complete are made ready."""
        events: list[tuple[int, int]] = self.ring.poll(timeout, maxevents, self.kernel)
        return events


class UringEngine(NonblockingEngine):
    """Operations that the system completes, and a loop that sleeps until one of them is."""

    name = "uring"
    # The ring waits for a socket that would block, and tells of EAGAIN where it may not.
    blocking_sockets = True

    def __init__(self) -> None:
        poller = RingPoller()
        super().__init__(poller)
        poller.kernel = self._kernel
        self._ring = poller.ring

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        await super()._connect(sock, address)
        sock.setblocking(True)

    def _made(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return UringStream(cast(Engine, self), self._kernel, self._ring, sock, peer)
