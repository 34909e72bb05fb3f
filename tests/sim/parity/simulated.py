"""The simulated sockets, on one host."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from anysock.engines.sim import here, system
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network
from tests.sim.parity.net import Machine

# How long nothing must happen, in seconds: longer than a segment is on its way, and shorter than
# TCP waits before it repeats one.
_REST = 0.001
_PATIENCE = 100_000


class Simulated(Machine):
    """A host of a simulated network, whose turn it is until `close`."""

    socket = system.socket
    os = system.os
    select = system.select
    fcntl = system.fcntl

    def __init__(self) -> None:
        self.host = Host(Network(), "localhost")
        self._before = here.current
        here.current = self.host
        self._files: list[int] = []

    def close(self) -> None:
        here.current = self._before
        for fd in self._files:
            os.close(fd)

    def settle(self, sockets: Sequence[Any]) -> None:
        network = self.host.network
        network.run_until(self.host, network.now + _REST)

    def wait(self, sock: Any, mask: int) -> None:
        for _ in range(_PATIENCE):
            if sock.mask() & (mask | 24):
                return
            self.settle([])
        raise AssertionError("nothing happens")

    def until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            self.settle([])

    def acknowledged(self, sock: Any) -> bool:
        self.settle([])
        return True

    def path(self, name: str) -> str:
        return f"/run/{name}"

    def file(self, content: bytes) -> int:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            self._files.append(os.dup(file.fileno()))
        return self._files[-1]

    @contextlib.contextmanager
    def no_descriptors(self) -> Iterator[None]:
        before, self.host.descriptors = self.host.descriptors, len(self.host.sockets)
        try:
            yield
        finally:
            self.host.descriptors = before
