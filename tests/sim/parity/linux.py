"""The kernel's own sockets, on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.sim.parity.net import Machine

_PATIENCE = 10_000  # milliseconds

# Of struct tcp_info (tcp(7)): the state, and how many segments are not acknowledged.
_TCP_INFO = struct.Struct("B23xI")


class Linux(Machine):
    """The machine that the tests run on.

    On loopback the kernel hands a packet over in a queue that each processor has, mostly within the
    system call that sends it. So the scripts stay on one processor; a datagram to ourselves goes
    behind everything that waits in its queue, and when it has come, so has all that was before it.
    """

    socket = socket
    os = os
    select = select
    fcntl = fcntl

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._processors)})
        self._marker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._marker.settimeout(_PATIENCE / 1000)
        self._marker.bind(("127.0.0.1", 0))
        self._marker.connect(self._marker.getsockname())
        self._files: list[int] = []

    def close(self) -> None:
        self._marker.close()
        for fd in self._files:
            os.close(fd)
        os.sched_setaffinity(0, self._processors)

    def settle(self, sockets: Sequence[Any]) -> None:
        before: object = None
        found = self._look(sockets)
        while found != before:
            before = found
            self._marker.send(b"")
            self._marker.recv(1)
            found = self._look(sockets)

    def _look(self, sockets: Sequence[Any]) -> list[object]:
        found: list[object] = []
        poll = select.poll()
        for sock in sockets:
            poll.register(sock, select.POLLIN | select.POLLOUT)
            if sock.family != socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
                # An acknowledgement that the kernel would hold back for 40 ms goes now.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                found.append(_info(sock))
        found.append(poll.poll(0))
        return found

    def wait(self, sock: Any, mask: int) -> None:
        poll = select.poll()
        poll.register(sock, mask)
        assert poll.poll(_PATIENCE), "nothing happens"

    def until(self, condition: Callable[[], bool]) -> None:
        # An acknowledgement is held back for 40 ms at most, and what is lost goes again after 200.
        deadline = time.monotonic() + 0.5
        while not condition() and time.monotonic() < deadline:
            select.poll().poll(1)

    def acknowledged(self, sock: Any) -> bool:
        return sock.family == socket.AF_UNIX or _info(sock)[1] == 0

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def file(self, content: bytes) -> int:
        fd, path = tempfile.mkstemp(dir=self._folder)
        os.unlink(path)
        os.write(fd, content)
        self._files.append(fd)
        return fd

    @contextlib.contextmanager
    def no_descriptors(self) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _info(sock: socket.socket) -> tuple[int, int]:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    state, unacknowledged = _TCP_INFO.unpack(info[: _TCP_INFO.size])
    return state, unacknowledged
