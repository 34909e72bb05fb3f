"""Datagrams (udp(7)): one `UdpSocket` sends and receives them, bound or connected."""

from __future__ import annotations

import collections
import errno
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

from anysock.engines.sim.host import Host
from anysock.engines.sim.memory import BUFFER, charge
from anysock.engines.sim.sockets import ERROR, READABLE, WRITABLE, SimSocket, fail
from anysock.engines.sim.udp_faults import carry
from anysock.engines.sim.unix import PEEK

Address = tuple[Any, ...]

# What a datagram holds at most, under the headers of each family, and what those take.
_LARGEST: Final = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
_HEADERS: Final = 100
_LEAST_CHARGE: Final = 832

# As the engines ask for it (ip(7), ipv6(7)).
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else -1)
_PKTINFO4: Final = struct.Struct("@I4s4s")
_PKTINFO6: Final = struct.Struct("@16sI")

Control = tuple[int, int, bytes]


class Waiting(NamedTuple):
    """A datagram that has come, and was not received."""

    data: bytes
    source: Address
    #: The address that it was sent to.
    to: str
    #: The memory that it takes.
    charge: int


class UdpSocket(SimSocket):
    """A UDP socket."""

    kind = "udp"

    def __init__(self, host: Host, family: Any) -> None:
        super().__init__(host, family, socket.SOCK_DGRAM)
        self.sndbuf = self.rcvbuf = BUFFER
        self.local: Address | None = None
        self.peer: Address | None = None
        self._in: collections.deque[Waiting] = collections.deque()
        self._in_size = 0
        self._error = 0

    # -- names -----------------------------------------------------------------------------------

    @property
    def _any(self) -> str:
        return "0.0.0.0" if self.family == socket.AF_INET else "::"

    @property
    def _loopback(self) -> str:
        return "127.0.0.1" if self.family == socket.AF_INET else "::1"

    def _name(self, host: str, port: int) -> Address:
        return (host, port) if self.family == socket.AF_INET else (host, port, 0, 0)

    def getsockname(self) -> Address:
        self.check_open()
        return self.local or self._name(self._any, 0)

    def getpeername(self) -> Address:
        self.check_open()
        return self.peer or fail(errno.ENOTCONN)

    def bind(self, address: Address) -> None:
        self.check_open()
        if self.local is not None:
            fail(errno.EINVAL)
        host, port = address[0] or self._any, address[1]
        if host != self._any and not self.host.owns(host):
            fail(errno.EADDRNOTAVAIL)
        self._bind(host, port)

    def _bind(self, host: str, port: int) -> None:
        bound = self.host.bound
        port = port or self._free_port()
        hosts = [each[1] for each in bound if each[0] == self.kind and each[2] == port]
        family = [each for each in hosts if (":" in each) == (":" in host)]
        if any(each in (host, self._any) or host == self._any for each in family):
            fail(errno.EADDRINUSE)
        bound[self.kind, host, port] = self
        self.local = self._name(host, port)

    def _free_port(self) -> int:
        """A port that is free on all addresses."""
        while True:
            port = self.host.free_port(self.kind, self._any)
            if not any(each[0] == self.kind and each[2] == port for each in self.host.bound):
                return port

    def _unbind(self) -> None:
        if self.local is not None:
            self.host.bound.pop((self.kind, self.local[0], self.local[1]), None)
            self.local = None

    def listen(self, backlog: int = 128) -> None:
        self.check_open()
        fail(errno.EOPNOTSUPP)

    def accept(self) -> None:
        self.check_open()
        fail(errno.EOPNOTSUPP)

    # -- connecting ------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """From now on, send to `address` alone, and receive from there alone."""
        self.check_open()
        host, port = address[0], address[1]
        if host == self._any:
            host = self._loopback
        target = self.host.network.host_of(host, self.host)
        if target is None:
            fail(errno.ENETUNREACH)
        source = self._source(target, host)
        if self.local is None:
            self._bind(source, 0)
        elif self.local[0] == self._any:
            port_of_ours = self.local[1]
            self._unbind()
            self._bind(source, port_of_ours)
        self.peer = self._name(host, port)

    def connect_ex(self, address: Address) -> int:
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or 0
        return 0

    def _source(self, target: Host, address: str) -> str:
        """Which of our addresses sends to `address`, which is one of the host `target`."""
        if self.local is not None and self.local[0] != self._any:
            return str(self.local[0])
        if target is not self.host:
            return self.host.addresses[self.family != socket.AF_INET]
        return self._loopback if address.startswith("127.") else address

    # -- sending ---------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0) -> int:
        self.check_open()
        if self.peer is None:
            fail(errno.EDESTADDRREQ)
        return self.sendmsg([data])

    def sendto(self, data: Any, address: Address) -> int:
        return self.sendmsg([data], (), 0, address)

    def sendmsg(
        self,
        pieces: Iterable[Any],
        control: Iterable[Control] = (),
        flags: int = 0,
        address: Address | None = None,
    ) -> int:
        self.check_open()
        data = b"".join(pieces)
        to = address or self.peer or fail(errno.EDESTADDRREQ)
        host, port = to[0], to[1]
        if not port:
            fail(errno.EINVAL)
        if len(data) > _LARGEST[self.family]:
            fail(errno.EMSGSIZE)
        if host == self._any:
            host = self._loopback
        target = self.host.network.host_of(host, self.host)
        if target is None:
            fail(errno.ENETUNREACH)
        if self.local is None:
            self._bind(self._any, 0)
        assert self.local is not None
        source = self._asked_source(control) or self._source(target, host)
        if self._error:
            # It is said of an earlier one, and this one is not sent.
            fail(self.take_error())
        self._transmit(target, data, self._name(source, self.local[1]), self._name(host, port))
        return len(data)

    def _asked_source(self, control: Iterable[Control]) -> str | None:
        """The address that a datagram is to be sent from, if it is said."""
        asked = self._any
        for level, kind, packed in control:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                asked = socket.inet_ntop(socket.AF_INET, _PKTINFO4.unpack(packed)[1])
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                asked = socket.inet_ntop(socket.AF_INET6, _PKTINFO6.unpack(packed)[0])
        if asked == self._any:
            return None
        return asked if self.host.owns(asked) else fail(errno.EINVAL)

    def _transmit(self, target: Host, data: bytes, source: Address, to: Address) -> None:
        network = self.host.network
        network.note(self.host.name, "datagram", target.name, len(data))
        network.carried = crc32(data, network.carried)
        link = network.link(self.host, target)
        carry(link, lambda: self._arrive(target, data, source, to))

    def _arrive(self, target: Host, data: bytes, source: Address, to: Address) -> None:
        """It is at the other host, which knows who it is for, or says that nobody is."""
        for host in (to[0], self._any):
            found = target.bound.get((self.kind, host, to[1]))
            if found is not None and found.peer in (None, source):
                found.arrive(Waiting(data, source, to[0], _charge(len(data))))
                return
        carry(self.host.network.link(target, self.host), lambda: self._refused(to))

    def _refused(self, by: Address) -> None:
        """ "Port unreachable" (ICMP): nobody listens where we have sent to. Only who is connected
        is told."""
        if self.peer == by:
            self._error = errno.ECONNREFUSED
            self.changed()

    # -- receiving -------------------------------------------------------------------------------

    def arrive(self, waiting: Waiting) -> None:
        """Keep a datagram until it is received, if there is room."""
        if self._in and self._in_size + waiting.charge > self.rcvbuf:
            self.host.network.note(self.host.name, "overflow", len(waiting.data))
            return
        self._in.append(waiting)
        self._in_size += waiting.charge
        self.changed()

    def recvmsg(
        self, size: int, room: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Control], int, Address]:
        self.check_open()
        if self._error:
            fail(self.take_error())
        if not self._in:
            fail(errno.EAGAIN)
        data, source, to, taken = self._in[0]
        if not flags & PEEK:
            self._in.popleft()
            self._in_size -= taken
        cut = socket.MSG_TRUNC if len(data) > size else 0
        return data[:size], list(self._destination(to)) if room else [], cut, source

    def recvfrom(self, size: int) -> tuple[bytes, Address]:
        data, _, _, source = self.recvmsg(size)
        return data, source

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self.recvmsg(size, 0, flags)[0]

    def _destination(self, to: str) -> Sequence[Control]:
        """Where a datagram was sent to, if the socket was told to say it."""
        packed = socket.inet_pton(self.family, to)
        interface = 1 if to == self._loopback or to.startswith("127.") else 2
        if self.options.get((socket.IPPROTO_IP, _IP_PKTINFO)):
            info = _PKTINFO4.pack(interface, packed, packed)
            return ((socket.IPPROTO_IP, _IP_PKTINFO, info),)
        if self.options.get((socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)):
            info = _PKTINFO6.pack(packed, interface)
            return ((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info),)
        return ()

    # -- the end ---------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        self.check_open()
        if self.peer is None:
            fail(errno.ENOTCONN)

    def closed(self) -> None:
        self._unbind()
        self._in.clear()
        self.peer = None

    def take_error(self) -> int:
        code, self._error = self._error, 0
        return code

    def mask(self) -> int:
        mask = WRITABLE
        if self._error:
            mask |= ERROR
        if self._in:
            mask |= READABLE
        return mask


def _charge(size: int) -> int:
    """The memory that the kernel takes for a datagram of `size` bytes."""
    return max(charge(size + _HEADERS), _LEAST_CHARGE)
