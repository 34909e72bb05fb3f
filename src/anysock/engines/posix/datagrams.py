"""UDP sockets: what the engines share of them. How to wait for one is each engine's own."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

from anysock.engines.base import Control, Datagram, SockAddr
from anysock.errors import StreamClosed

# The most that a datagram of IPv4 or IPv6 holds (RFC 768, with a length of 16 bits): none is ever
# cut off.
_MOST = 65_535

# Of in_pktinfo (ip(7)): the interface, our address, the address in the datagram. Python has had a
# name for the number since 3.14 only.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)
_PKTINFO4 = struct.Struct("@I4s4s")
_PKTINFO6 = struct.Struct("@16sI")

_ROOM = socket.CMSG_SPACE(max(_PKTINFO4.size, _PKTINFO6.size)) + 64


class SocketDatagrams:
    """What the `Datagrams` of every engine do alike; how they wait is the engines' own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._closed = False
        # How often `send` has met a refusal, which only `recv` raises.
        self._refusals = 0
        self.local: SockAddr = sock.getsockname()

    async def recv(self) -> Datagram:
        while True:
            if self._closed:
                raise StreamClosed("the UDP socket is closed")
            if self._refusals:
                self._refusals -= 1
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            try:
                data, control, _, source = self._sock.recvmsg(_MOST, _ROOM)
                break
            except BlockingIOError:
                await self._until_readable()
            except OSError:
                if self._closed:
                    raise StreamClosed("the UDP socket is closed") from None
                raise
        return Datagram(data, source, *_origin(control))

    def send(
        self,
        data: bytes,
        to: SockAddr | None = None,
        origin: tuple[Control, ...] = (),
    ) -> None:
        if self._closed:
            raise StreamClosed("the UDP socket is closed")
        if to is None:
            try:
                self._sock.send(data)
            except ConnectionRefusedError:
                # That is said of an earlier one, and this one was not sent.
                self._refusals += 1
                self._sock.send(data)
        else:
            self._sock.sendmsg([data], origin, 0, to)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake()
            self._sock.close()

    async def _until_readable(self) -> None:
        """Wait until something may have come, or `_wake`."""
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError


def _origin(control: list[Control]) -> tuple[str | None, bool, tuple[Control, ...]]:
    """Where a datagram was sent to, whether to many, and the control message that sends from
    there."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, ours, sent_to = _PKTINFO4.unpack(data[: _PKTINFO4.size])
            answer = _PKTINFO4.pack(0, ours, bytes(4))
            # Of what was sent to us alone the two are the same (ip(7)).
            to_many = ours not in (sent_to, bytes(4))
            return socket.inet_ntop(socket.AF_INET, sent_to), to_many, ((level, kind, answer),)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            sent_to, interface = _PKTINFO6.unpack(data[: _PKTINFO6.size])
            # Link-local addresses (RFC 4291, section 2.5.6) mean nothing without their interface;
            # for all others, naming one would overrule the machine's routes.
            link_local = sent_to[0] == 0xFE and sent_to[1] & 0xC0 == 0x80
            answer = _PKTINFO6.pack(sent_to, interface if link_local else 0)
            return socket.inet_ntop(socket.AF_INET6, sent_to), False, ((level, kind, answer),)
    return None, False, ()


def open_datagrams(
    family: socket.AddressFamily, address: SockAddr, *, connect: bool
) -> socket.socket:
    """A non-blocking UDP socket, bound to `address`, or connected to it.

    Raises OSError, with `filename` set to the address.
    """
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        error.filename = address
        raise
    try:
        if connect:
            sock.connect(address)
            if sock.getsockname() == sock.getpeername():
                # No program listens there, so that the kernel could choose that very port for our
                # end, and what we send would come back. While this socket holds the port, a second
                # one gets another.
                with sock:
                    return open_datagrams(family, address, connect=True)
        else:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            tell_destinations(sock)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        error.filename = address
        raise
    return sock


def adopt_datagrams(fd: int) -> socket.socket:
    """The UDP socket behind an inherited descriptor. Raises OSError when it is none."""
    sock = socket.socket(fileno=fd)
    if sock.type != socket.SOCK_DGRAM:
        sock.detach()
        raise OSError(errno.ESOCKTNOSUPPORT, "it is no datagram socket", f"fd://{fd}")
    tell_destinations(sock)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def tell_destinations(sock: socket.socket) -> None:
    """Let the system say of each datagram which address it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif _IP_PKTINFO is not None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
