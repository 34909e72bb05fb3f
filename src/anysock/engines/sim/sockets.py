"""What all simulated sockets have in common: the face of `socket.socket`."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final, NoReturn, Self

from anysock.engines.sim.host import Host, Looker, Opened

SOCKET: Final = socket.SOL_SOCKET

# What setsockopt(2) takes at least, already doubled, as Linux has it (socket(7)).
LEAST_RCVBUF: Final = 2_304
LEAST_SNDBUF: Final = 4_608
MOST_BUF: Final = 425_984

AF: Final = socket.AddressFamily
KIND: Final = socket.SocketKind

# Options of keepalive: idle time, interval, probes. (What macOS calls the first: tcp(4) there.)
_IDLE: Final[int] = getattr(socket, "TCP_KEEPIDLE", 0) or getattr(socket, "TCP_KEEPALIVE", 4)
KEEPIDLE: Final = socket.IPPROTO_TCP, _IDLE
KEEPINTVL: Final = socket.IPPROTO_TCP, socket.TCP_KEEPINTVL
KEEPCNT: Final = socket.IPPROTO_TCP, socket.TCP_KEEPCNT

# What getsockopt(2) finds before anything was set, and what may be set (tcp(7)).
_DEFAULTS: Final = {KEEPIDLE: 7200, KEEPINTVL: 75, KEEPCNT: 9}
_MOST: Final = {KEEPIDLE: 32_767, KEEPINTVL: 32_767, KEEPCNT: 127}

# How many pieces one writev(2) takes.
_IOV_MAX: Final = 1024

READABLE: Final = 1
WRITABLE: Final = 4
ERROR: Final = 8
HANGUP: Final = 16


# What was said of errors before: most are EAGAIN.
_TEXTS: Final[dict[int, str]] = {}


def fail(code: int) -> NoReturn:
    """Raise the OSError of a system call."""
    text = _TEXTS.get(code)
    if text is None:
        text = _TEXTS[code] = os.strerror(code)
    raise OSError(code, text)


class SimSocket(Opened):
    """One socket of a host. All are as if non-blocking."""

    # One of TCP has more attributes than the dicts of instances share keys for (30, in CPython):
    # these would be dicts of its own, slower to make and to look into.
    __slots__ = (
        "family",
        "fd",
        "host",
        "linger_seconds",
        "lingers",
        "options",
        "poller",
        "proto",
        "rcvbuf",
        "sndbuf",
        "type",
    )

    kind = ""

    # (mypyc would make plain numbers of enums that are said to be ints.)
    def __init__(self, host: Host, family: Any, type_: Any) -> None:
        self.host = host
        # To make what they are already would cost more than all the rest.
        self.family = family if type(family) is AF else AF(family)
        self.type = type_ if type(type_) is KIND else KIND(type_)
        self.proto = 0
        self.poller: Looker | None = None
        self.options: dict[tuple[int, int], int] = {}
        self.rcvbuf = 131_072
        self.sndbuf = 174_080
        self.lingers = False
        self.linger_seconds = 0
        self.fd = -1

    # -- descriptors -----------------------------------------------------------------------------

    def fileno(self) -> int:
        return self.fd

    def detach(self) -> int:
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close the descriptor; what the socket does then is its kind's."""
        if self.fd >= 0:
            self.host.close(self.fd)
            self.fd = -1
            self.closed()

    def closed(self) -> None:
        raise NotImplementedError

    def vanish(self) -> None:
        """Its machine has lost its power."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setblocking(self, flag: bool) -> None:
        """None of them blocks."""

    def settimeout(self, seconds: float | None) -> None:
        """None of them blocks."""

    def set_inheritable(self, flag: bool) -> None:
        """There is no other process."""

    # -- readiness -------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something has happened that a poller may have waited for."""
        if self.poller is not None and self.fd >= 0:
            self.poller.look(self.fd)

    def check_open(self) -> None:
        if self.fd < 0:
            fail(errno.EBADF)

    # -- options ---------------------------------------------------------------------------------

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.check_open()
        if level == SOCKET and option == socket.SO_LINGER:
            assert isinstance(value, bytes)
            self.lingers = bool(int.from_bytes(value[:4], "little"))
            self.linger_seconds = int.from_bytes(value[4:8], "little")
            return
        number = value if isinstance(value, int) else int.from_bytes(value, "little")
        if level == SOCKET and option == socket.SO_RCVBUF:
            self.rcvbuf = max(min(2 * number, MOST_BUF), LEAST_RCVBUF)
        elif level == SOCKET and option == socket.SO_SNDBUF:
            self.sndbuf = max(min(2 * number, MOST_BUF), LEAST_SNDBUF)
        elif (level, option) in _MOST:
            if not 1 <= number <= _MOST[level, option]:
                fail(errno.EINVAL)
            self.options[level, option] = number
        else:  # all others are switches
            self.options[level, option] = int(bool(number))

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        self.check_open()
        if level == SOCKET and option == socket.SO_ERROR:
            return self.take_error()
        if level == SOCKET and option == socket.SO_LINGER and size:
            return struct.pack("ii", self.lingers, self.linger_seconds)
        found = self._option(level, option)
        return found.to_bytes(size, "little") if size else found

    def _option(self, level: int, option: int) -> int:
        if level == SOCKET:
            if option == socket.SO_RCVBUF:
                return self.rcvbuf
            if option == socket.SO_SNDBUF:
                return self.sndbuf
            if option == socket.SO_TYPE:
                return int(self.type)
        return self.options.get((level, option), _DEFAULTS.get((level, option), 0))

    def take_error(self) -> int:
        """The error that waits to be told, which is told once."""
        return 0

    # -- several pieces --------------------------------------------------------------------------

    def writev(self, pieces: Sequence[Any]) -> int:
        if len(pieces) > _IOV_MAX:
            fail(errno.EINVAL)
        data = b"".join(bytes(piece) for piece in pieces)
        return self.send(data) if data else 0
