"""Which TCP sockets of a host have which port (ip(7), tcp(7))."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final, NoReturn, Protocol

# Where ports begin that the system chooses (ip(7), ip_local_port_range).
FIRST_PORT: Final = 32_768

WILDCARDS: Final = ("0.0.0.0", "::")

_REUSE: Final = socket.SOL_SOCKET, socket.SO_REUSEADDR
_V6ONLY: Final = socket.IPPROTO_IPV6, socket.IPV6_V6ONLY


class Owner(Protocol):
    """A socket that has a port."""

    family: socket.AddressFamily
    options: dict[tuple[int, int], int]
    local: tuple[Any, ...] | None

    @property
    def listens(self) -> bool: ...


class Ports:
    """The ports of one host. Accepted connections share that of their listener."""

    def __init__(self) -> None:
        self._owners: dict[int, dict[Any, None]] = {}
        self._listeners: dict[tuple[str, int], Any] = {}
        self._next = FIRST_PORT

    def free(self, to: int = 0) -> int:
        """A port that nobody has, to connect from to the port `to`: another one, so that nobody
        connects to himself by chance. Raises OSError, EADDRINUSE."""
        for _ in range(65_536 - FIRST_PORT):
            port = self._next
            self._next = port + 1 if port < 65_535 else FIRST_PORT
            if port not in self._owners and port != to:
                return port
        return _refuse()

    def claim(self, sock: Owner, address: str, port: int) -> None:
        """Raises OSError, EADDRINUSE, where another stands against it that `sock` has this address,
        or listens there."""
        for other in self._owners.get(port, ()):
            if other is sock or not _overlap(sock, address, other):
                continue
            both_reuse = sock.options.get(_REUSE) and other.options.get(_REUSE)
            if other.listens or not both_reuse:
                _refuse()

    def owners(self, port: int) -> list[Any]:
        """The sockets that have `port`."""
        return list(self._owners.get(port, ()))

    def add(self, sock: Owner, port: int) -> None:
        """From now on `sock` has `port`."""
        owners = self._owners.get(port)
        if owners is None:
            owners = self._owners[port] = {}
        owners[sock] = None

    def remove(self, sock: Owner, port: int) -> None:
        """`sock` has `port` no more. Safe to call again."""
        owners = self._owners.get(port)
        if owners is not None:
            owners.pop(sock, None)
            if not owners:
                del self._owners[port]

    def listen(self, sock: Any, address: str, port: int) -> None:
        """From now on, who connects there meets `sock`."""
        self._listeners[address, port] = sock

    def listen_no_more(self, sock: Any, address: str, port: int) -> None:
        """Undo `listen`."""
        if self._listeners.get((address, port)) is sock:
            del self._listeners[address, port]

    def listener(self, address: str, port: int) -> Any:
        """Whom one meets who connects there; None: nobody."""
        found = self._listeners.get((address, port))
        return found or self._listeners.get((WILDCARDS[":" in address], port))


def _refuse() -> NoReturn:
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _overlap(sock: Owner, address: str, other: Owner) -> bool:
    """Whether a peer may mean `other` by an address that also is `address`."""
    assert other.local is not None
    if sock.family != other.family:
        six, of_six = (sock, address) if sock.family == socket.AF_INET6 else (other, other.local[0])
        return of_six == "::" and not six.options.get(_V6ONLY)
    return address == other.local[0] or address in WILDCARDS or other.local[0] in WILDCARDS
