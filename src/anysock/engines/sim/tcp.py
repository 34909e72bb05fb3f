"""TCP, as far as a program can tell.

A `TcpSocket` is one end of a connection, or listens, or will be one of the two. It is written in
four parts, each on top of the one before: the way that segments take to the other end (`tcp_way`);
the buffers, and what is acknowledged (`tcp_end`); the handshake (`tcp_handshake`); and here, names,
listening, and how it all ends.

**States.** Four, and some flags, for the eleven of RFC 9293: closed, listening, connecting, open.
An open end that has sent its FIN, or received the other's, says so by `shut` and `ended`; when it
has done both, and its FIN is acknowledged, it is closed. After a reset, or ETIMEDOUT, it is closed
with an error, which the next call tells: once.

**The handshake.** A SYN meets a listener, whose system answers for it, as long as there is room in
the backlog: `backlog` + 1 connections wait there to be accepted. Where there is none the SYN is
dropped, and goes again after 1, 3, 7, … seconds, six times; ETIMEDOUT comes after 127. The last of
the three segments, which completes the connection for the listener, may find the backlog full, too:
then the client is connected, and the listener knows nothing of it before its system tries again.

**Segments.** What goes from one end to the other is a queue, which arrives in order: after the
latency of the link, and behind what was sent before. What meets a link that is down stays at its
head, and goes again once the link is up, when TCP would have sent it anew. If no acknowledgement
comes for 924.6 seconds (tcp_retries2), the connection is given up: ETIMEDOUT. Keepalive does the
same for an idle connection; its probes are no events, but where a link is down.

**Buffers and the window.** What is written is in the send buffer until the other end has
acknowledged it; what has come is in the receive buffer until it is read. An acknowledgement takes
the way back, with its latency, and says how much has come, and up to where there is room: an end
sends no further than that. A receiver that had closed the window opens it when half of its buffer
is free, and not with each byte. A buffer holds half of what SO_SNDBUF and SO_RCVBUF say, which is
what setsockopt(2) was told (socket(7)). Acknowledgements are not events, unless an end waits for
one: they lie in a queue with the time of their arrival, and are looked at by who asks.

**Ends.** FIN comes behind all data. RST leaves with a close that has SO_LINGER 0, or unread data,
and answers whatever arrives at an end that is closed. Nobody repeats it: where it is lost, the
other end finds out by what it sends, be it again because it was not acknowledged, or by keepalive.
What was received before a reset stays to be read, as on Linux (BSD discards it).

**Not simulated**: congestion and slow start, Nagle's algorithm and delayed acknowledgements (all is
sent, and acknowledged, at once), segments in another order (TCP hides it), TIME_WAIT (a port is
free once its socket is closed), SYN cookies, Fast Open, urgent data, buffers that grow by
themselves.

What system calls return is what Linux returns: ``tests/sim/parity`` compares them.
"""

from __future__ import annotations

import collections
import errno
import socket
from typing import Final

from anysock.engines.sim import accepting
from anysock.engines.sim.ports import WILDCARDS
from anysock.engines.sim.sockets import SOCKET, fail
from anysock.engines.sim.tcp_handshake import Address, TcpHandshake
from anysock.engines.sim.tcp_way import CLOSED, CONNECTING, LISTENING, NO_RECEIVE, NO_SEND, OPEN

_BIND_ADDRESS_NO_PORT: Final = socket.IPPROTO_IP, 24
_ACCEPTCONN: Final = SOCKET, socket.SO_ACCEPTCONN


class TcpSocket(TcpHandshake):
    """One end of a connection, or what listens, or will be one of the two."""

    __slots__ = ()

    waiting: collections.deque[TcpSocket]

    # -- names -----------------------------------------------------------------------------------

    def getsockname(self) -> Address:
        self.check_open()
        return self.local or self._name(WILDCARDS[self.family != socket.AF_INET], 0)

    def getpeername(self) -> Address:
        self.check_open()
        self._take_acks()
        if self.state != OPEN or self.peer is None:
            fail(errno.ENOTCONN)
        return self.peer

    def bind(self, address: Address) -> None:
        self.check_open()
        host, port = address[0] or WILDCARDS[self.family != socket.AF_INET], address[1]
        if self.local is not None:
            fail(errno.EINVAL)
        if host not in WILDCARDS and not self.host.owns(host):
            fail(errno.EADDRNOTAVAIL)
        if port:
            self.host.ports.claim(self, host, port)
        elif not self.options.get(_BIND_ADDRESS_NO_PORT):
            port = self.host.ports.free()
        self._take_name(host, port)

    # -- listening -------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self.check_open()
        if self.state not in (CLOSED, LISTENING):
            fail(errno.EINVAL)
        if self.local is None:
            self.bind(self.getsockname())
        assert self.local is not None
        host, port = self.local[:2]
        if self.state == CLOSED:
            self.host.ports.claim(self, host, port)
            self.host.ports.listen(self, host, port)
            self.state, self.shut = LISTENING, 0
        self.backlog = backlog

    def accept(self) -> tuple[TcpSocket, Address]:
        child = accepting.accept(self, listens=self.state == LISTENING)
        assert child.peer is not None
        return child, child.peer

    def _stop_listening(self) -> None:
        assert self.local is not None
        self.state = CLOSED
        self.host.ports.listen_no_more(self, *self.local[:2])
        for child in self.waiting:
            child.reset()
            child._give_name_back()
        self.waiting.clear()
        self.changed()

    # -- the end ---------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        self.check_open()
        self._take_acks()
        if self.state == LISTENING:
            if how != socket.SHUT_WR:
                self._stop_listening()
            return
        if self.state == CONNECTING:
            self._fail_connect(errno.ECONNRESET)
            self.shut = 0
            return
        if how != socket.SHUT_WR:
            if self.shut_at is None:
                self.shut_at = self.network.now
                if self.taken_at is not None:
                    self.silence = self.shut_at - self.taken_at
                if self.came_at is not None and self._in and self._written == self._acked:
                    self.lain = self.shut_at - self.came_at
            self.shut |= NO_RECEIVE
        self._asked = False
        if self.state != OPEN:
            if how != socket.SHUT_RD:
                self.shut |= NO_SEND
            fail(errno.ENOTCONN)
        if how != socket.SHUT_RD:
            self._end_sending()
        self.changed()

    def closed(self) -> None:
        if self.state == LISTENING:
            self._stop_listening()
        elif self.state == CONNECTING:
            self.state = CLOSED
        else:
            self._close_end()
        self._give_name_back()

    def vanish(self) -> None:
        self.host.close(self.fd)
        self.fd = -2
        if self.state == LISTENING:
            assert self.local is not None
            self.host.ports.listen_no_more(self, *self.local[:2])
        for sock in (self, *self.waiting):
            sock.vanish_end()
            sock._give_name_back()
        self.waiting.clear()

    # -- readiness and options -------------------------------------------------------------------

    def unacknowledged(self) -> int:
        if self.state == LISTENING:
            fail(errno.EINVAL)
        return super().unacknowledged()

    def _option(self, level: int, option: int) -> int:
        if (level, option) == _ACCEPTCONN:
            return int(self.state == LISTENING)
        return super()._option(level, option)
