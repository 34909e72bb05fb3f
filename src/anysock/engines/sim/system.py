"""The system calls of a simulated host: stand-ins for the modules that offer the real ones.

They act on the host whose turn it is. What they do not stand in for, a constant, say, is
the real module's.
"""

from __future__ import annotations

import errno
import fcntl as real_fcntl
import os as real_os
import resource as real_resource
import select as real_select
import socket as real_socket
import time as real_time
import types
from typing import TYPE_CHECKING, Any

from anysock.engines.sim import calls
from anysock.engines.sim.here import here
from anysock.engines.sim.names import look_up
from anysock.engines.sim.sockets import READABLE, SimSocket, fail
from anysock.engines.sim.tcp import TcpSocket
from anysock.engines.sim.udp import UdpSocket
from anysock.engines.sim.unix import UnixSocket, join
from anysock.machine import compiled as real_compiled
from anysock.machine import listening_socket as real_listening_socket
from anysock.machine import memory as real_memory


class StandIn(types.ModuleType):
    """A module, with some of its names replaced."""

    def __init__(self, real: types.ModuleType, **names: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update({**vars(real), **names})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


# -- socket ----------------------------------------------------------------------------------------


_INTERNET = (real_socket.AF_INET, real_socket.AF_INET6)


def make_socket(
    family: int = real_socket.AF_INET,
    type: int = real_socket.SOCK_STREAM,
    _proto: int = 0,
    fileno: int | None = None,
) -> SimSocket:
    if fileno is not None:
        adopted = calls.of(fileno)
        assert isinstance(adopted, SimSocket)
        adopted.fd = fileno
        return adopted
    host = here()
    sock: SimSocket
    if family in _INTERNET and type == real_socket.SOCK_STREAM:
        sock = TcpSocket(host, family)
    elif family in _INTERNET and type == real_socket.SOCK_DGRAM:
        sock = UdpSocket(host, family)
    elif family == real_socket.AF_UNIX and type == real_socket.SOCK_STREAM:
        sock = UnixSocket(host)
    else:
        fail(errno.EAFNOSUPPORT)
    sock.fd = host.open(sock)
    return sock


def make_pair() -> tuple[UnixSocket, UnixSocket]:
    host = here()
    one, other = UnixSocket(host), UnixSocket(host)
    join(one, other)
    for each in (one, other):
        each.fd = host.open(each)
    return one, other


socket = StandIn(real_socket, socket=make_socket, socketpair=make_pair, getaddrinfo=look_up)


# -- os --------------------------------------------------------------------------------------------


def _sendfile(fd: int, file: int, offset: int, count: int) -> int:
    return calls.of(fd).send(real_os.pread(file, count, offset))


def _open(*_: Any) -> int:
    fail(errno.ENOENT)


def _stat(path: Any) -> real_os.stat_result:
    found: real_os.stat_result = here().files.stat(path)
    return found


def _unlink(path: Any) -> None:
    here().files.unlink(path)


def _chmod(path: Any, mode: int) -> None:
    here().files.chmod(path, mode)


def _listdir(path: Any) -> list[str]:
    if path != "/dev/fd":
        fail(errno.ENOENT)
    return [str(fd) for fd in here().sockets]


os = StandIn(
    real_os,
    read=calls.read,
    write=calls.write,
    writev=calls.writev,
    sendfile=_sendfile,
    open=_open,
    stat=_stat,
    lstat=_stat,
    unlink=_unlink,
    chmod=_chmod,
    listdir=_listdir,
)


# -- select, fcntl, resource, time -----------------------------------------------------------------


class _Poll:
    """poll(2), which looks and does not wait."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, sock: Any, mask: int = READABLE) -> None:
        self._wanted[sock if isinstance(sock, int) else sock.fileno()] = mask

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        found = ((fd, calls.of(fd).mask() & (wanted | 24)) for fd, wanted in self._wanted.items())
        return [(fd, mask) for fd, mask in found if mask]


def _ioctl(fd: int, _request: int, argument: Any) -> int:
    argument[0] = calls.of(fd).unacknowledged()
    return 0


def _flock(fd: int, operation: int) -> None:
    """There is no other process."""


def _getrlimit(_which: int) -> tuple[int, int]:
    return here().descriptors, here().descriptors


def _monotonic() -> float:
    now: float = here().network.look()
    return now


def _time() -> float:
    now: float = here().wall_clock()
    return now


select = StandIn(real_select, poll=_Poll)
fcntl = StandIn(real_fcntl, ioctl=_ioctl, flock=_flock)
resource = StandIn(real_resource, getrlimit=_getrlimit)
time = StandIn(real_time, monotonic=_monotonic, time=_time)

# What a host has, in bytes. How much of it is used is not known.
MEMORY = 1 << 30

memory = StandIn(real_memory, available=lambda: MEMORY, resident=lambda: None)
# What is compiled makes real system calls.
compiled = StandIn(real_compiled, fast=None)
listening_socket = StandIn(real_listening_socket, quick_to_accept=lambda sock: sock)

#: What the relinked modules get when they import these.
STAND_INS: dict[str, types.ModuleType] = {
    each.__name__: each
    for each in (socket, os, select, fcntl, resource, time, memory, compiled, listening_socket)
}
