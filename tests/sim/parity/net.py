"""What the scripts use: sockets, each call of which is told, with what came of it.

A script is a function of one `Net`. It runs on Linux loopback and on the simulated network, and
what is told must be the same. The calls are those that the engines make, with their flags.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    AddressFamily,
    SocketKind,
)
from typing import Any

from tests.sim.parity.sock import Sock

HERE = "127.0.0.1"


class Machine:
    """A machine that scripts run on: what stands for Python's modules, and how to wait."""

    socket: Any
    os: Any
    select: Any
    fcntl: Any

    def close(self) -> None:
        raise NotImplementedError

    def settle(self, sockets: Sequence[Any]) -> None:
        """Let everything arrive that is on its way between these sockets."""
        raise NotImplementedError

    def wait(self, sock: Any, mask: int) -> None:
        """Wait until poll(2) finds one of `mask` on `sock`."""
        raise NotImplementedError

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()`, or until it can be expected no more."""
        raise NotImplementedError

    def acknowledged(self, sock: Any) -> bool:
        """Whether all is acknowledged that was sent, as opposed to kept back."""
        raise NotImplementedError

    def path(self, name: str) -> str:
        """Where a Unix socket of this name may be bound."""
        raise NotImplementedError

    def file(self, content: bytes) -> int:
        """A descriptor of a file with this content."""
        raise NotImplementedError

    def no_descriptors(self) -> Any:
        """A context in which no descriptor can be opened."""
        raise NotImplementedError


class Net:
    """Sockets of one machine, and what their calls have told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.told: list[tuple[str, object]] = []
        self.sockets: list[Sock] = []
        self._ports: dict[int, str] = {}

    def tell(self, what: str, found: object) -> None:
        self.told.append((what, found))

    def call(self, what: str, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func`, let the network come to rest, and tell what came of it."""
        try:
            found = func(*args)
        except OSError as error:
            found = errno.errorcode.get(error.errno or 0, repr(error))
        self.settle()
        self.tell(what, self.named(found))
        return found

    def settle(self) -> None:
        self.machine.settle([each.raw for each in self.sockets if each.raw.fileno() >= 0])

    def named(self, found: object) -> object:
        """`found`, in which each port is told by the order in which ports were seen, and a file by
        its name alone."""
        if isinstance(found, str):
            return found.rsplit("/", 1)[-1]
        if isinstance(found, tuple) and len(found) in (2, 4) and isinstance(found[1], int):
            host, port = found[:2]
            if not isinstance(host, str):
                return found
            if port == 0:
                return (host, 0)
            return (host, self._ports.setdefault(port, f"port {len(self._ports)}"))
        return found

    def socket(
        self,
        name: str,
        family: AddressFamily = AF_INET,
        kind: SocketKind = SOCK_STREAM,
    ) -> Sock:
        """A socket that does not block, and is called `name` where its calls are told."""
        raw = self.machine.socket.socket(family, kind)
        raw.setblocking(False)
        return self.add(name, raw)

    def add(self, name: str, raw: Any) -> Sock:
        sock = Sock(self, name, raw)
        self.sockets.append(sock)
        return sock

    def listener(
        self,
        backlog: int = 16,
        address: Any = (HERE, 0),
        *,
        name: str = "listener",
        family: AddressFamily = AF_INET,
        buffer: int | None = None,
    ) -> Sock:
        """A socket that listens, opened as `engines.posix.listening` does."""
        sock = self.socket(name, family)
        if family != AF_UNIX:
            sock.raw.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.raw.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if family == AF_INET6:
            sock.raw.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        if buffer is not None:
            sock.small(buffer)
        sock.raw.bind(address)
        sock.raw.listen(backlog)
        self.settle()
        return sock

    def client(self, listener: Sock, name: str = "client", buffer: int | None = None) -> Sock:
        """A socket that has begun to connect; nothing is told of it."""
        sock = self.socket(name, listener.raw.family)
        if buffer is not None:
            sock.small(buffer)
        code = sock.raw.connect_ex(listener.raw.getsockname())
        assert code in (0, errno.EINPROGRESS), code
        self.settle()
        return sock

    def pair(
        self,
        family: AddressFamily = AF_INET,
        *,
        buffer: int | None = None,
        keep: bool = False,
    ) -> tuple[Sock, Sock]:
        """A client and a server that are connected. The listener is closed, unless `keep`."""
        address: Any = self.machine.path("pair") if family == AF_UNIX else (HERE, 0)
        listener = self.listener(16, address, family=family, buffer=buffer)
        client = self.client(listener, buffer=buffer)
        raw, _ = listener.raw.accept()
        raw.setblocking(False)
        server = self.add("server", raw)
        if not keep:
            listener.raw.close()
        self.settle()
        return client, server

    def socketpair(self) -> tuple[Sock, Sock]:
        one, other = self.machine.socket.socketpair()
        one.setblocking(False)
        other.setblocking(False)
        return self.add("one", one), self.add("other", other)

    @contextmanager
    def no_descriptors(self) -> Iterator[None]:
        with self.machine.no_descriptors():
            yield

    def close(self) -> None:
        for each in self.sockets:
            each.raw.close()
