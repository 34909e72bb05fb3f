"""TCP, as far as a program can tell: one `TcpSocket` is one end of a connection, or listens.

What goes from one end to the other are segments, numbered by their place in a queue, so that they
arrive in order, be they held up or not. Each end has a send buffer and a receive buffer, and sends
no more than the other has room for. It knows FIN, RST, the backlog and its repeated SYNs; it does
not know congestion, nor TIME-WAIT.

What system calls return is what Linux returns: ``tests/sim/parity`` compares them.
"""

from __future__ import annotations

import collections
import errno
import socket
from typing import Any

from anysock.engines.sim import tcp_faults
from anysock.engines.sim.fates import Fate
from anysock.engines.sim.host import Host
from anysock.engines.sim.links import Link
from anysock.engines.sim.sockets import ERROR, HANGUP, READABLE, SOCKET, WRITABLE, SimSocket, fail
from anysock.loop.timers import Timer

# The most that one segment carries, as on loopback.
MSS = 65_483

# After how many seconds an unanswered SYN is repeated (tcp(7), tcp_syn_retries).
SYN_RETRIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

# After how long what was sent and not acknowledged is given up (tcp(7), tcp_retries2).
GIVES_UP_SECONDS = 924.6

# As a plain number: an operation with an enum is a call of Python code.
PEEK = int(socket.MSG_PEEK)

DATA, FIN, RST, ACK = "data", "fin", "rst", "ack"

Address = tuple[Any, ...]


class TcpSocket(SimSocket):
    """One end of a connection, or what listens."""

    kind = "tcp"

    def __init__(self, host: Host, family: int) -> None:
        super().__init__(host, family, socket.SOCK_STREAM)
        self.network = host.network
        self.local: Address | None = None
        self.peer: Address | None = None
        #: The other end; None before there is one.
        self.far: TcpSocket | None = None
        self.link: Link | None = None
        self.connecting = False
        self.connected = False
        #: What listen(2) was told; None: it does not listen.
        self.backlog: int | None = None
        self.waiting: collections.deque[TcpSocket] = collections.deque()
        # What has come, and was not read; what was written, and has not left.
        self._in: collections.deque[bytes] = collections.deque()
        self.in_size = 0
        self._out: collections.deque[memoryview] = collections.deque()
        self._out_size = 0
        #: Bytes that have left, and are not in the other's buffer yet.
        self._unacked = 0
        # What is on its way to the other end.
        self._flight: collections.deque[tuple[str, bytes]] = collections.deque()
        self._last_arrival = 0.0
        self._stuck = 0
        self._give_up: Timer | None = None
        #: What goes wrong with it; None: nothing.
        self.fate: Fate | None = None
        #: Whether the other end has vanished without a word: nothing comes, and nothing gets there.
        self.severed = False
        # From when on it sends, and reads, again; and whether the next send is waited for.
        self.sends_at = self.reads_at = 0.0
        self.corked = False
        # How much later than the one before the next segment comes, at least.
        self._gap = 0.0
        self.shut_read = self.shut_write = False
        self._fin_sent = self.fin_received = False
        #: Whether the connection is gone.
        self.dead = False
        self._error = 0
        #: When bytes were last taken out of it, and when the other end's system last took some.
        self.taken_at: float | None = None
        self.acknowledged_at: float | None = None

    # -- names -----------------------------------------------------------------------------------

    def _name(self, host: str, port: int) -> Address:
        return (host, port) if self.family == socket.AF_INET else (host, port, 0, 0)

    def getsockname(self) -> Address:
        self.check_open()
        if self.local is None:
            return self._name("0.0.0.0" if self.family == socket.AF_INET else "::", 0)
        return self.local

    def getpeername(self) -> Address:
        self.check_open()
        if not self.connected or self.dead or self.peer is None:
            fail(errno.ENOTCONN)
        return self.peer

    def bind(self, address: Address) -> None:
        self.check_open()
        host, port = address[0], address[1]
        if self.local is not None:
            fail(errno.EINVAL)
        if host not in ("", "0.0.0.0", "::") and not self.host.owns(host):
            fail(errno.EADDRNOTAVAIL)
        if not host:
            host = "0.0.0.0"
        port = port or self.host.free_port(self.kind, host)
        other = self._bound_to(host, port)
        if other is not None and (other.backlog is not None or not self._may_share(other)):
            fail(errno.EADDRINUSE)
        self.local = self._name(host, port)
        self.host.bound.setdefault((self.kind, host, port), self)

    def _bound_to(self, host: str, port: int) -> TcpSocket | None:
        bound = self.host.bound
        found: TcpSocket | None = bound.get((self.kind, host, port))
        return found

    def _may_share(self, other: TcpSocket) -> bool:
        reuse = SOCKET, socket.SO_REUSEADDR
        return bool(self.options.get(reuse) and other.options.get(reuse))

    # -- listening -------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self.check_open()
        if self.connected or self.connecting:
            fail(errno.EINVAL)
        if self.local is None:
            self.bind(self.getsockname())
        self.backlog = backlog
        self.host.bound[self.kind, self.local[0], self.local[1]] = self  # type: ignore[index]

    def accept(self) -> tuple[TcpSocket, Address]:
        self.check_open()
        if self.backlog is None:
            fail(errno.EINVAL)
        # Where there is no descriptor, accept(2) says so before it looks for a peer.
        if len(self.host.sockets) >= self.host.descriptors:
            fail(errno.EMFILE)
        if not self.waiting:
            fail(errno.EAGAIN)
        if self.network.faults is not None and (short_of := tcp_faults.shortage(self)):
            fail(short_of)
        child = self.waiting.popleft()
        child.fd = self.host.open(child)
        assert child.peer is not None
        return child, child.peer

    # -- connecting ------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        code = self.connect_ex(address)
        if code:
            fail(code)

    def connect_ex(self, address: Address) -> int:
        self.check_open()
        if self.connecting:
            return errno.EALREADY
        if self.connected:
            return errno.EISCONN
        host, port = address[0], address[1]
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if self.family == socket.AF_INET else "::1"
        target = self.network.host_of(host, self.host)
        if target is None:
            return errno.ENETUNREACH
        if self.local is None or self.local[0] in ("0.0.0.0", "::"):
            ours = host if target is self.host else self.host.addresses[self.family != 2]
            port_of_ours = self.local[1] if self.local else self.host.free_port(self.kind, ours)
            self.local = self._name(ours, port_of_ours)
            self.host.bound.setdefault((self.kind, ours, port_of_ours), self)
        self.peer = self._name(host, port)
        self.connecting = True
        self.link = self.network.link(self.host, target)
        if self.network.faults is not None:
            tcp_faults.afflict(self, f"{self.host.name}.{self.host.connects}>", connects=True)
            self.host.connects += 1
        self._send_syn(target, 0)
        return errno.EINPROGRESS

    def _send_syn(self, target: Host, attempt: int) -> None:
        if not self.connecting or self.fd < 0:
            return
        assert self.link is not None
        delay = self.link.delay(0)

        def arrive() -> None:
            assert self.link is not None
            if not (self.connecting and self.link.up and self._knock(target)):
                if attempt < len(SYN_RETRIES):
                    self.network.after(
                        SYN_RETRIES[attempt], lambda: self._send_syn(target, attempt + 1)
                    )
                else:
                    self.network.after(64.0, lambda: self._fail_connect(errno.ETIMEDOUT))

        self._after(delay, arrive)

    def _knock(self, target: Host) -> bool:
        """A SYN arrives. False: it is dropped."""
        assert self.peer is not None
        back = self.network.link(target, self.host)
        listener, fate = self._listener_on(target), self.fate
        if listener is not None and fate is not None and tcp_faults.refuses(fate):
            listener = None
        if listener is None:
            self._after(back.delay(0), lambda: self._fail_connect(errno.ECONNREFUSED))
            return True
        if len(listener.waiting) > (listener.backlog or 0):
            return False
        if fate is not None and fate.backlog is not None and fate.backlog.strikes():
            return False
        child = TcpSocket(target, self.family)
        child.rcvbuf, child.sndbuf = listener.rcvbuf, listener.sndbuf
        child.options = dict(listener.options)
        child.local, child.peer, child.link = self.peer, self.local, back
        child.far, self.far = self, child
        child.connected = True
        if fate is not None:
            tcp_faults.afflict(child, f"{fate.subject[:-1]}<", connects=False)
        self._after(back.delay(0), lambda: self._established(listener, child))
        return True

    def _listener_on(self, target: Host) -> TcpSocket | None:
        assert self.peer is not None
        port, any_ = self.peer[1], "0.0.0.0" if self.family == socket.AF_INET else "::"
        for host in (self.peer[0], any_):
            found = target.bound.get((self.kind, host, port))
            if found is not None and found.backlog is not None:
                listening: TcpSocket = found
                return listening
        return None

    def _established(self, listener: TcpSocket, child: TcpSocket) -> None:
        """The SYN was answered."""
        if not self.connecting or self.fd < 0:
            return
        self.connecting, self.connected = False, True
        self.network.note(self.host.name, "connected", self.peer)
        self.changed()
        assert self.link is not None
        self._after(self.link.delay(0), lambda: child.enter_backlog(listener))

    def enter_backlog(self, listener: TcpSocket) -> None:
        """The connection is complete on the side that listens."""
        if listener.backlog is None or listener.fd < 0:
            self.reset()
        else:
            listener.waiting.append(self)
            listener.changed()

    def _fail_connect(self, code: int) -> None:
        if self.connecting:
            self.connecting = False
            self.dead = True
            self._error = code
            self.changed()

    def _after(self, delay: float, action: Any) -> None:
        if delay:
            self.network.after(delay, action)
        else:
            action()

    # -- receiving -------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.check_open()
        if self.fate is not None:
            if self.reads_at > self.network.now and not self._error:
                fail(errno.EAGAIN)
            if self._in and not flags:
                size = tcp_faults.readable_part(self, self.fate, size)
        if self._in:
            return self._take(size, bool(flags & PEEK))
        if self._error:
            fail(self.take_error())
        if self.fin_received or self.shut_read or (self.dead and self.connected):
            return b""
        return fail(errno.EAGAIN if self.connected else errno.ENOTCONN)

    def _take(self, size: int, peek: bool) -> bytes:
        first = self._in[0]
        if peek:
            return first[:size]
        if len(first) >= size:
            if len(first) == size:
                self._in.popleft()
            else:
                self._in[0] = first[size:]
            data = first[:size]
        else:
            pieces, left = [], size
            while self._in and left:
                piece = self._in[0]
                if len(piece) > left:
                    self._in[0] = piece[left:]
                    piece = piece[:left]
                else:
                    self._in.popleft()
                pieces.append(piece)
                left -= len(piece)
            data = b"".join(pieces)
        self.in_size -= len(data)
        self.taken_at = self.network.now
        if self.far is not None and self.far.blocked:
            self._transmit(ACK)  # the window has opened
        return data

    # -- sending ---------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether something waits for the window of the other end."""
        return bool(self._out)

    def send(self, data: Any, flags: int = 0) -> int:
        view = memoryview(data)
        if view.format != "B":
            view = view.cast("B")
        self.check_open()
        if self._error:
            fail(self.take_error())
        if self.shut_write or self.dead:
            fail(errno.EPIPE)
        if self.connecting:
            fail(errno.EAGAIN)
        if not self.connected:
            fail(errno.EPIPE)
        room = self.sndbuf // 2 - self._out_size - self._unacked
        if room <= 0 and len(view):
            fail(errno.EAGAIN)
        size = min(len(view), room)
        if self.fate is not None and size:
            size = tcp_faults.sendable_part(self, self.fate, size)
        if size:
            self._out.append(memoryview(bytes(view[:size])))
            self._out_size += size
            self._push()
        return size

    def unacknowledged(self) -> int:
        """What SIOCOUTQ says (tcp(7))."""
        return self._out_size + self._unacked

    def _push(self) -> None:
        """Send what may be sent."""
        far, fate = self.far, self.fate
        assert far is not None
        if self.sends_at > self.network.now:
            return
        while self._out:
            window = far.rcvbuf // 2 - far.in_size - self._unacked
            if window <= 0:
                return
            first = self._out[0]
            size = min(len(first), window, MSS)
            gap = 0.0
            if fate is not None:
                size, gap = tcp_faults.segment(self, fate, size)
                if not size:
                    return
            if size == len(first):
                self._out.popleft()
            else:
                self._out[0] = first[size:]
            self._out_size -= size
            self._unacked += size
            self._transmit(DATA, bytes(first[:size]))
            self._gap = gap
        if self.shut_write and not self._fin_sent:
            self._fin_sent = True
            self._transmit(FIN)

    def _transmit(self, what: str, data: bytes = b"") -> None:
        link = self.link
        assert link is not None
        assert self.far is not None
        self.network.note(self.host.name, what, link.to, len(data))
        if self.severed:
            self._count_on_answer()
            return
        delay = link.delay(len(data))
        if self.fate is not None:
            if self.fate.jitter is not None:
                delay += self.fate.jitter.next()
            if self._gap:
                delay = max(delay, self._last_arrival + self._gap - self.network.now)
                self._gap = 0.0
        if not delay and link.up and not self._flight:
            self.far.receive(what, data)
            return
        self._flight.append((what, data))
        self._last_arrival = max(self.network.now + delay, self._last_arrival)
        self.network.at(self._last_arrival, self._arrive)

    def _arrive(self) -> None:
        """The next segment in the queue arrives, unless the link is down: then, once it is up."""
        link = self.link
        assert link is not None
        assert self.far is not None
        if not self._flight:
            return
        if not link.up:
            self._count_on_answer()
            self._stuck += 1
            link.when_up(self._repeat)
            return
        self.far.receive(*self._flight.popleft())

    def _repeat(self) -> None:
        assert self.link is not None
        stuck, self._stuck = self._stuck, 0
        if self._give_up is not None:
            self.network.cancel(self._give_up)
            self._give_up = None
        when = self._last_arrival = max(self.network.now + self.link.delay(0), self._last_arrival)
        for _ in range(stuck):
            self.network.at(when, self._arrive)

    def receive(self, what: str, data: bytes) -> None:
        """A segment arrives from the other end."""
        if what == RST:
            self._lose(errno.EPIPE if self.fin_received else errno.ECONNRESET)
        elif what == ACK:
            if not self.dead:
                self._push()
        elif self.dead:
            self._transmit(RST)
        elif what == FIN:
            self.fin_received = True
            self.changed()
        elif self._orphan:
            # Nobody is there to read it (RFC 2525, 2.17).
            self.reset()
        else:
            self._in.append(data)
            self.in_size += len(data)
            assert self.far is not None
            self.far.acknowledged(len(data))
            self.changed()

    @property
    def _orphan(self) -> bool:
        return self.fd == -2

    def acknowledged(self, size: int) -> None:
        """So many bytes are in the other's buffer."""
        was_full = not self._writable()
        self._unacked -= size
        if not self.dead:
            self.acknowledged_at = self.network.now
        if was_full:
            self.changed()

    # -- the end ---------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        self.check_open()
        if self.backlog is not None:
            self._stop_listening()
            return
        if not self.connected or self.dead:
            fail(errno.ENOTCONN)
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self.shut_read = True
        if how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self.shut_write:
            self.shut_write = True
            self._push()
        self.changed()

    def closed(self) -> None:
        self.fd = -2
        if self.backlog is not None:
            self._stop_listening()
        elif self.connected and not self.dead:
            if self.in_size or (self.lingers and not self.linger_seconds):
                self.reset()
            elif not self.shut_write:
                self.shut_write = True
                self._push()
        self._unbind()

    def _unbind(self) -> None:
        if self.local is not None:
            key = (self.kind, self.local[0], self.local[1])
            if self.host.bound.get(key) is self:
                del self.host.bound[key]

    def _stop_listening(self) -> None:
        self.backlog = None
        for child in self.waiting:
            child.reset()
        self.waiting.clear()
        self.dead = True
        self._unbind()
        self.changed()

    def reset(self) -> None:
        """Give the connection up, and tell the other end."""
        if not self.dead:
            self.dead = True
            self._drop_output()
            self._transmit(RST)

    def _lose(self, code: int) -> None:
        if not self.dead:
            self.dead = True
            self._error = code
            self._drop_output()
            self.changed()

    def _drop_output(self) -> None:
        self._out.clear()
        self._out_size = 0

    def _count_on_answer(self) -> None:
        """Something was sent that is not answered: that can go on for only so long."""
        if self._give_up is None:
            self._give_up = self.network.after(GIVES_UP_SECONDS, self.time_out)

    def time_out(self) -> None:
        """The other end has not answered for too long."""
        self._lose(errno.ETIMEDOUT)

    def break_off(self) -> None:
        """Something on the way has reset the connection: both ends lose it, and what is on its
        way."""
        for end in (self, self.far):
            if end is not None:
                end._flight.clear()
                end._stuck = 0
                end._lose(errno.ECONNRESET)

    def vanish(self) -> None:
        self.host.close(self.fd)
        self.fd, self.backlog, self.connecting = -2, None, False
        for sock in (self, *self.waiting):
            # What comes for it later is answered by a reset.
            sock.dead = True
            sock._flight.clear()
            sock._stuck = 0
            sock._drop_output()
        self.waiting.clear()
        self._unbind()

    def sever(self) -> None:
        """From now on nothing gets from one end to the other, and neither is told."""
        for end in (self, self.far):
            if end is not None:
                end.severed = True
                if end._flight:
                    end._flight.clear()
                    end._stuck = 0
                    end._count_on_answer()
                tcp_faults.watch_over(end)

    def push_on(self) -> None:
        """Send what was kept, if it is time."""
        if not self.dead and self._out:
            self.corked = False
            self._push()

    def take_error(self) -> int:
        code, self._error = self._error, 0
        return code

    # -- readiness -------------------------------------------------------------------------------

    def _writable(self) -> bool:
        # As Linux: when a third of the buffer is free (sk_stream_is_writeable).
        return 3 * (self._out_size + self._unacked) < self.sndbuf

    def mask(self) -> int:
        if self.backlog is not None:
            return READABLE if self.waiting else 0
        if self.connecting:
            return 0
        if self.reads_at > self.network.now and not self._error:
            # A slow reader does not look yet, and so can't be told of an end either.
            return WRITABLE if self.shut_write or self.dead or self._writable() else 0
        mask = 0
        if self._error:
            mask |= ERROR
        if self.dead or not self.connected:
            return mask | HANGUP | WRITABLE | (READABLE if self.connected or self._error else 0)
        if self._in or self.fin_received or self.shut_read:
            mask |= READABLE
        if self.shut_write:
            mask |= WRITABLE
            if self.fin_received or self.shut_read:
                mask |= HANGUP
        elif self._writable():
            mask |= WRITABLE
        return mask
