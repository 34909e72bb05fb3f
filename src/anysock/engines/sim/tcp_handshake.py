"""How a TCP socket comes to be one end of a connection: it connects, or its system answers for who
listens. `tcp` explains the model.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from anysock.engines.sim import end_faults
from anysock.engines.sim.host import Host
from anysock.engines.sim.ports import WILDCARDS
from anysock.engines.sim.sockets import fail
from anysock.engines.sim.tcp_end import TcpEnd
from anysock.engines.sim.tcp_way import ACK, CLOSED, CONNECTING, LISTENING, OPEN

# After how many seconds an unanswered SYN is repeated, and in the end given up; and how often the
# answer is sent to it (tcp(7), tcp_syn_retries and tcp_synack_retries).
SYN_RETRIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ANSWERS: Final = 6

Address = tuple[Any, ...]


class TcpHandshake(TcpEnd):
    """What a socket does before it is connected."""

    __slots__ = ("_answers", "_asked", "backlog", "connected_at", "listener")

    def __init__(self, host: Host, family: Any) -> None:
        super().__init__(host, family)
        #: When the answer to its SYN has come.
        self.connected_at: float | None = None
        #: Of what listens: how many may wait to be accepted, but one.
        self.backlog = 0
        #: Of a connection that is not in its backlog yet: who listens.
        self.listener: TcpHandshake | None = None
        # How often it has answered the SYN again.
        self._answers = 0
        # Whether connect(2) has begun, and not told yet what came of it.
        self._asked = False

    @property
    def listens(self) -> bool:
        return self.state == LISTENING

    # -- names -----------------------------------------------------------------------------------

    def _name(self, host: str, port: int) -> Address:
        return (host, port) if self.family == socket.AF_INET else (host, port, 0, 0)

    def _take_name(self, host: str, port: int) -> None:
        self.local = self._name(host, port)
        if port:
            self.host.ports.add(self, port)

    def _give_name_back(self) -> None:
        if self.local is not None:
            self.host.ports.remove(self, self.local[1])
        if self.link is not None:
            self.link.pair.connections.pop(self, None)

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
            end_faults.afflict(self, f"{self.host.name}.{self.host.connects}>", connects=True)
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
        listener: TcpHandshake | None = target.ports.listener(*self.peer[:2])
        if listener is not None and fate is not None and end_faults.refuses(fate):
            listener = None
        if listener is None and self.local == self.peer and target is self.host:
            self._meet_itself()
            return
        if listener is not None:
            full = len(listener.waiting) > listener.backlog
            if full or (fate is not None and end_faults.drops_syn(fate)):
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

    def _make_child(self, target: Host, listener: TcpHandshake) -> None:
        """The other end, which the listener's system makes when a SYN comes."""
        assert self.peer is not None
        child = type(self)(target, self.family)
        child.rcvbuf, child.sndbuf = listener.rcvbuf, listener.sndbuf
        child.lingers, child.linger_seconds = listener.lingers, listener.linger_seconds
        child.options = dict(listener.options)
        child.peer, child.far, child.listener = self.local, self, listener
        child.link = self.network.link(target, self.host)
        child._take_name(*self.peer[:2])
        if self.fate is not None:
            end_faults.afflict(child, f"{self.fate.subject[:-1]}<", connects=False)
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
            self.connected_at = self.network.now
            self.network.note(self.host.name, "connected", self.peer)
            self.changed()
            self._transmit(ACK)
        elif self.state == CLOSED:
            far = self.far
            if isinstance(far, TcpHandshake) and far.listener is not None:
                far._vanish()  # it was given up meanwhile

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
            far = self.far
            if isinstance(far, TcpHandshake):
                far._vanish()
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
