"""TCP, as far as a program can tell.

A `TcpSocket` is one end of a connection, or listens, or will be one of the two. What is common to
both is here: names, listening, connecting. `tcp_end` has what follows.

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
comes for 924.6 seconds (tcp_retries2), the connection is given up: ETIMEDOUT.

**Buffers and the window.** What is written is in the send buffer until the other end has
acknowledged it; what has come is in the receive buffer until it is read. An acknowledgement takes
the way back, with its latency, and says how much has come, and up to where there is room: an end
sends no further than that. A receiver that had closed the window opens it when half of its buffer
is free, and not with each byte. A buffer holds half of what SO_SNDBUF and SO_RCVBUF say, which is
what setsockopt(2) was told (socket(7)). Acknowledgements are not events, unless an end waits for
one: they lie in a queue with the time of their arrival, and are looked at by who asks.

**Ends.** FIN comes behind all data. RST leaves with a close that has SO_LINGER 0, or unread data,
and answers whatever arrives at an end that is closed. What was received before a reset stays to be
read, as on Linux (BSD discards it).

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
from collections.abc import Callable
from typing import Any

from anysock.engines.sim import tcp_faults
from anysock.engines.sim.host import Host
from anysock.engines.sim.ports import WILDCARDS
from anysock.engines.sim.sockets import SOCKET, fail
from anysock.engines.sim.tcp_end import TcpEnd
from anysock.engines.sim.tcp_way import (
    ACK,
    CLOSED,
    CONNECTING,
    LISTENING,
    NO_RECEIVE,
    NO_SEND,
    OPEN,
)

# After how many seconds an unanswered SYN is repeated, and in the end given up; and how often the
# answer is sent to it (tcp(7), tcp_syn_retries and tcp_synack_retries).
SYN_RETRIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ANSWERS = 6

_BIND_ADDRESS_NO_PORT = socket.IPPROTO_IP, 24
_ACCEPTCONN = SOCKET, socket.SO_ACCEPTCONN

Address = tuple[Any, ...]


class TcpSocket(TcpEnd):
    """One end of a connection, or what listens."""

    far: TcpSocket | None
    waiting: collections.deque[TcpSocket]

    def __init__(self, host: Host, family: int) -> None:
        super().__init__(host, family)
        self.backlog = 0
        #: Of a connection that is not in its backlog yet: who listens.
        self.listener: TcpSocket | None = None
        # How often it has answered the SYN again.
        self._answers = 0
        # Whether connect(2) has begun, and not told yet what came of it.
        self._asked = False

    # -- names -----------------------------------------------------------------------------------

    def _name(self, host: str, port: int) -> Address:
        return (host, port) if self.family == socket.AF_INET else (host, port, 0, 0)

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

    def _take_name(self, host: str, port: int) -> None:
        self.local = self._name(host, port)
        if port:
            self.host.ports.add(self, port)

    def _give_name_back(self) -> None:
        if self.local is not None:
            self.host.ports.remove(self, self.local[1])
        if self.link is not None:
            self.link.pair.connections.pop(self, None)

    # -- listening -------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        return self.state == LISTENING

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
        self.check_open()
        # Where there is no descriptor, accept(2) says so before it looks for a peer.
        if len(self.host.sockets) >= self.host.descriptors:
            fail(errno.EMFILE)
        if self.state != LISTENING:
            fail(errno.EINVAL)
        if not self.waiting:
            fail(errno.EAGAIN)
        child = self.waiting[0]
        if self.network.faults is not None and (short_of := tcp_faults.shortage(self, child)):
            fail(short_of)
        self.waiting.popleft()
        child.fd = self.host.open(child)
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

    # -- connecting ------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        if code := self.connect_ex(address):
            fail(code)

    def connect_ex(self, address: Address) -> int:
        self.check_open()
        self._take_acks()
        if self.state == CONNECTING:
            return errno.EALREADY
        if self._asked:
            return self._answer()
        if self.state != CLOSED or self.far is not None:
            return errno.EISCONN
        host, port = address[0], address[1]
        if host in WILDCARDS:
            host = "127.0.0.1" if self.family == socket.AF_INET else "::1"
        target = self.network.host_of(host, self.host)
        if target is None:
            return errno.ENETUNREACH
        self.peer = self._name(host, port)
        ours = host if target is self.host else self.host.addresses[self.family != socket.AF_INET]
        return self._choose_name(ours) or self._begin_to_connect(target)

    def _answer(self) -> int:
        """What came of the connect before this one, if it was not asked for yet."""
        self._asked = False
        if self.state == OPEN:
            return 0
        self.shut = 0
        return self.take_error() or errno.ECONNABORTED

    def _begin_to_connect(self, target: Host) -> int:
        self._asked = True
        self.state = CONNECTING
        self.link = self.network.link(self.host, target)
        if self.network.faults is not None:
            tcp_faults.afflict(self, f"{self.host.name}.{self.host.connects}>", connects=True)
            self.host.connects += 1
        self._send_syn(target, 0)
        return errno.EINPROGRESS

    def _choose_name(self, ours: str) -> int:
        """Complete our own name, on the way to `peer`; an error number if that can't be."""
        assert self.peer is not None
        bound, port = self.local[:2] if self.local is not None else (ours, 0)
        ours = ours if bound in WILDCARDS else bound
        if not port:
            self._take_name(ours, self.host.ports.free(self.peer[1]))
            return 0
        name = self._name(ours, port)
        for other in self.host.ports.owners(port):
            if other is not self and other.peer == self.peer and other.local == name:
                return errno.EADDRNOTAVAIL
        self.local = name
        return 0

    def _after(self, delay: float, action: Callable[[], object]) -> None:
        if delay:
            self.network.after(delay, action)
        else:
            action()

    def _send_syn(self, target: Host, attempt: int) -> None:
        if self.state != CONNECTING:
            return
        if attempt == len(SYN_RETRIES):
            self._fail_connect(errno.ETIMEDOUT)
            return
        assert self.link is not None
        again = self.network.now + SYN_RETRIES[attempt]

        def repeat() -> None:
            self.network.at(
                max(again, self.network.now), lambda: self._send_syn(target, attempt + 1)
            )

        self._after(self.link.delay(0), lambda: self._syn_arrives(target, repeat))

    def _syn_arrives(self, target: Host, repeat: Callable[[], None]) -> None:
        """`repeat` sends another, when it is time, if this one leads to nothing."""
        assert self.link is not None
        assert self.peer is not None
        if self.state != CONNECTING:
            return
        if not self.link.up:
            if not self.link.keep(lambda: self._syn_arrives(target, repeat)):
                repeat()
            return
        fate = self.fate
        listener: TcpSocket | None = target.ports.listener(*self.peer[:2])
        if listener is not None and fate is not None and tcp_faults.refuses(fate):
            listener = None
        if listener is None and self.local == self.peer and target is self.host:
            self._meet_itself()
            return
        if listener is not None:
            full = len(listener.waiting) > listener.backlog
            if full or (fate is not None and tcp_faults.drops_syn(fate)):
                repeat()
                return
            if self.far is None or self.far.state != OPEN:
                self._make_child(target, listener)
        back = self.network.link(target, self.host)

        def answer_arrives() -> None:
            if not back.up:
                if not back.keep(answer_arrives):
                    repeat()
            elif listener is None:
                self._fail_connect(errno.ECONNREFUSED)
            else:
                self._established()

        self._after(back.delay(0), answer_arrives)

    def _make_child(self, target: Host, listener: TcpSocket) -> None:
        """The other end, which the listener's system makes when a SYN comes."""
        assert self.peer is not None
        child = TcpSocket(target, self.family)
        child.rcvbuf, child.sndbuf = listener.rcvbuf, listener.sndbuf
        child.lingers, child.linger_seconds = listener.lingers, listener.linger_seconds
        child.options = dict(listener.options)
        child.peer, child.far, child.listener = self.local, self, listener
        child.link = self.network.link(target, self.host)
        child._take_name(*self.peer[:2])
        if self.fate is not None:
            tcp_faults.afflict(child, f"{self.fate.subject[:-1]}<", connects=False)
        child.state = OPEN
        child._room = self._allowed = self.rcvbuf >> 1
        self._room = child._allowed = child.rcvbuf >> 1
        self.far = child
        for end in (self, child):
            assert end.link is not None
            end.link.pair.connections[end] = None

    def _established(self) -> None:
        """The SYN was answered."""
        if self.state == CONNECTING:
            self.state = OPEN
            self.network.note(self.host.name, "connected", self.peer)
            self.changed()
            self._transmit(ACK)
        elif self.state == CLOSED and self.far is not None and self.far.listener is not None:
            self.far._vanish()  # it was given up meanwhile

    def _meet_itself(self) -> None:
        """Two ends that open at once are a connection, even if they are one (RFC 9293, 3.5)."""
        self.far = self
        self._room = self._allowed = self.rcvbuf >> 1
        self.state = OPEN
        self.changed()

    def _fail_connect(self, code: int) -> None:
        if self.state == CONNECTING:
            self._error = code
            self._be_over()
            if self.far is not None:
                self.far._vanish()
                self.far = None

    # -- what comes ------------------------------------------------------------------------------

    def receive(self, what: str, data: bytes) -> bool:
        if self.listener is not None and not self._enter_backlog():
            if not self._answers:
                self._answer_again()
            return False
        return super().receive(what, data)

    def _enter_backlog(self) -> bool:
        """The handshake is complete on the side that listens. False: the backlog is full."""
        listener = self.listener
        assert listener is not None
        if listener.state != LISTENING:
            self.reset()
            self._vanish()
        elif len(listener.waiting) <= listener.backlog:
            self.listener = None
            listener.waiting.append(self)
            listener.changed()
        else:
            return False
        return True

    def _answer_again(self) -> None:
        """The backlog was full: the SYN is answered once more, as if nothing had come since."""
        wait = SYN_RETRIES[self._answers]
        self._answers += 1

        def again() -> None:
            if self.listener is None:
                return
            if self._answers == ANSWERS:
                self._vanish()
            elif not self._enter_backlog():
                self._answer_again()
                return
            assert self.far is not None
            self.far._repeat()

        self.network.after(wait, again)

    def _vanish(self) -> None:
        """It never gets into the backlog: the other end is not told."""
        self.listener = None
        self._be_over()
        self._give_name_back()

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
