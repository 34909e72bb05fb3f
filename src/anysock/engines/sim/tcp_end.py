"""One end of a TCP connection: what is written and read, sent and acknowledged, and how it ends.
`tcp` explains the model.
"""

from __future__ import annotations

import collections
import errno
import socket
from typing import Any, Final

from anysock.engines.sim.agenda import Due
from anysock.engines.sim.host import Host
from anysock.engines.sim.sockets import ERROR, HANGUP, READABLE, WRITABLE, fail
from anysock.engines.sim.tcp_faults import TcpFaults
from anysock.engines.sim.tcp_way import (
    ACK,
    CLOSED,
    CONNECTING,
    DATA,
    FIN,
    LISTENING,
    NEITHER,
    NO_RECEIVE,
    NO_SEND,
    OPEN,
    RST,
)

# The most that one segment carries, as on loopback.
MSS: Final = 65_483

# As a plain number: an operation with an enum is a call of Python code.
PEEK: Final = int(socket.MSG_PEEK)


class TcpEnd(TcpFaults):
    """What a connected socket does; `tcp.TcpSocket` adds how it comes to be one."""

    __slots__ = (
        "_ack_timer",
        "_acked",
        "_acknowledged_at",
        "_acks",
        "_allowed",
        "_fin_sent",
        "_in",
        "_out",
        "_received",
        "_room",
        "_sent",
        "_written",
        "came_at",
        "ended",
        "ended_at",
        "lain",
        "put_at",
        "shut_at",
        "silence",
        "taken_at",
        "waiting",
    )

    def __init__(self, host: Host, family: Any) -> None:
        super().__init__(host, family)
        #: Whether the other end's stream has ended (SOCK_DONE in Linux).
        self.ended = False
        #: Of what listens: the connections that wait to be accepted.
        self.waiting: collections.deque[Any] = collections.deque()
        # What was written and has not left. Places in our stream, counted in bytes, its end as one:
        # up to where it was written, has left, was acknowledged; and up to where the other end has
        # room for it.
        self._out: collections.deque[bytes | memoryview] = collections.deque()
        self._written = self._sent = self._acked = self._room = 0
        self._fin_sent = False
        # What has come and was not read. Places in the stream that comes: up to where it has come,
        # and may come.
        self._in: collections.deque[bytes] = collections.deque()
        self._received = self._allowed = 0
        # Acknowledgements on their way to us: when they arrive, and what `_acked` and `_room` are
        # then. They are looked at when somebody wants to know, or waits for them.
        self._acks: collections.deque[tuple[float, int, int]] = collections.deque()
        self._ack_timer: Due | None = None
        #: When bytes were last put into it, and taken out of it; since when there are some to take;
        #: when its own stream was ended; and when the other end last acknowledged some.
        self.put_at: float | None = None
        self.taken_at: float | None = None
        self.came_at: float | None = None
        self.ended_at: float | None = None
        #: When receiving was first shut down, for how long nothing had been taken then, and for how
        #: long something had lain there to be taken, while nothing was on the way back.
        self.shut_at: float | None = None
        self.silence: float | None = None
        self.lain: float | None = None
        self._acknowledged_at: float | None = None

    # -- receiving -------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.fd < 0:
            fail(errno.EBADF)
        if self.fate is not None:
            if self.reads_at > self.network.now and not self._error:
                fail(errno.EAGAIN)
            if self._in and not flags:
                size = self._readable_part(self.fate, size)
        if self._in:
            return b"".join(self._in)[:size] if flags & PEEK else self._take(size)
        if self.ended or not size:
            return b""
        if self._error:
            fail(self.take_error())
        if self.shut & NO_RECEIVE:
            return b""
        return fail(errno.EAGAIN if self.state >= CONNECTING else errno.ENOTCONN)

    def _take(self, size: int) -> bytes:
        queue = self._in
        data = queue[0]
        if len(data) <= size:
            queue.popleft()
            if queue and len(data) < size:
                pieces, left = [data], size - len(data)
                while queue and left >= len(queue[0]):
                    pieces.append(queue.popleft())
                    left -= len(pieces[-1])
                if queue and left:
                    pieces.append(queue[0][:left])
                    queue[0] = queue[0][left:]
                data = b"".join(pieces)
        else:
            queue[0] = data[size:]
            data = data[:size]
        self.in_size -= len(data)
        self.taken_at = self.network.now
        # No news of a little room, which would make the other end send little (RFC 9293, 3.8.6.2).
        space = self.rcvbuf >> 1
        allowed = self._received + space - self.in_size
        if (allowed - self._allowed) << 1 >= space and self.state == OPEN:
            self._allowed = allowed
            self._acknowledge()
        return data

    def _acknowledge(self) -> None:
        """Tell the other end what has come, and up to where more may."""
        far, link = self.far, self.link
        assert isinstance(far, TcpEnd)
        assert link is not None
        if self.severed:
            return
        if not link.up:
            link.when_up(self._acknowledge)
            far.await_answer()
            return
        far._acks.append((self.network.now + link.latency, self._received, self._allowed))
        if far._give_up is not None:
            far._forget_to_give_up()
        if far._out or 3 * (far._written - far._acked) >= far.sndbuf:
            far._await_acks()

    # -- sending ---------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0) -> int:
        if self.fd < 0:
            fail(errno.EBADF)
        if self._error:
            fail(self.take_error())
        if self.shut & NO_SEND or self.state != OPEN:
            fail(errno.EAGAIN if self.state == CONNECTING else errno.EPIPE)
        if self._acks:
            self._take_acks()
        if type(data) is not bytes:
            view = memoryview(data)
            data = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        size = len(data)
        if not size:
            return 0
        free = (self.sndbuf >> 1) - self._written + self._acked
        if free <= 0:
            fail(errno.EAGAIN)
        size = min(size, free)
        if self.fate is not None:
            size = self._sendable_part(self.fate, size)
        self._written += size
        self.put_at = self.network.now
        # Whatever the program does to its buffer now, this is what is sent.
        piece = data if type(data) is bytes and size == len(data) else bytes(data[:size])
        if self._out or size > self._room - self._sent or size > MSS or self.fate is not None:
            self._out.append(piece)
            self._push()
        else:
            self._sent += size
            self._transmit(DATA, piece)
        if self._acks and self._waits():
            self._await_acks()
        return size

    def unacknowledged(self) -> int:
        """What SIOCOUTQ says (tcp(7))."""
        if self._acks:
            self._take_acks()
        return self._written - self._acked

    def _push(self) -> None:
        """Send what may be sent."""
        out, fate = self._out, self.fate
        if self.sends_at > self.network.now:
            return
        while out:
            piece = out[0]
            size = min(len(piece), self._room - self._sent, MSS)
            gap = 0.0
            if size > 0 and fate is not None:
                size, gap = self._segment(fate, size)
            if size <= 0:
                return
            if size == len(piece):
                out.popleft()
            else:
                out[0] = memoryview(piece)[size:]
                piece = piece[:size]
            self._sent += size
            self._transmit(DATA, bytes(piece))
            self._gap = gap
        if self.shut & NO_SEND and not self._fin_sent and self.state == OPEN:
            self._fin_sent = True
            self._sent += 1
            self._transmit(FIN)

    def _end_sending(self) -> None:
        if not self.shut & NO_SEND:
            self.ended_at = self.network.now
            self.shut |= NO_SEND
            self._written += 1
            self._push()

    def _waits(self) -> bool:
        """Whether it makes a difference to us when an acknowledgement comes."""
        return bool(self._out) or 3 * (self._written - self._acked) >= self.sndbuf

    def _await_acks(self) -> None:
        if self._ack_timer is None:
            when = self._acks[0][0]
            if when <= self.network.now:
                self._meet_acks()
            else:
                self._ack_timer = self.network.at(when, self._meet_acks)

    def _meet_acks(self) -> None:
        self._ack_timer = None
        self._take_acks()
        if self._out:
            self._push()
        if self._acks and self._waits():
            self._await_acks()

    def _take_acks(self) -> None:
        """Look at the acknowledgements that have arrived by now. Whoever looks, a task that waits
        for room to send is woken."""
        now, acks = self.network.now, self._acks
        if acks and acks[0][0] <= now:
            was_full = not self._writable()
            while acks and acks[0][0] <= now:
                when, acked, self._room = acks.popleft()
                if acked > self._acked:
                    self._acked, self._acknowledged_at = acked, when
            if was_full and self._writable():
                self.changed()
        if self.ended and self._fin_sent and self._acked == self._sent and self.state == OPEN:
            self.state = CLOSED  # both have ended, and know it

    @property
    def acknowledged_at(self) -> float | None:
        """When the other end last acknowledged something."""
        self._take_acks()
        return self._acknowledged_at

    @property
    def sends_again(self) -> bool:
        """Whether it has sent what was not acknowledged, or waits for room and asks for it again
        and again (RFC 9293, 3.8.1 and 3.8.6.1)."""
        acked = self._acks[-1][1] if self._acks else self._acked
        return self._sent > acked or bool(self._out)

    @property
    def untaken(self) -> int:
        """How many bytes were written that the other end has not acknowledged."""
        left = self.unacknowledged()
        return left - 1 if left and self.ended_at is not None else left  # its end counts as one

    def push_on(self) -> None:
        if self.state == OPEN and self._out:
            self.corked = False
            self._push()

    # -- what comes ------------------------------------------------------------------------------

    def receive(self, what: str, data: bytes) -> bool:
        self._heard_at = self.network.now
        if what == RST:
            # Who has told the other end that all is said, and not answered, hears EPIPE of it.
            half_closed = self.ended and not self.shut & NO_SEND
            self._lose(errno.EPIPE if half_closed else errno.ECONNRESET)
        elif what == ACK:
            pass
        elif self.state != OPEN:
            self._transmit(RST)
        elif what == FIN:
            self.ended = True
            self.shut |= NO_RECEIVE
            self._received += 1
            self._acknowledge()
            self._take_acks()
            self.changed()
        elif self.shut == NEITHER:
            # Nobody is there to read it (RFC 2525, 2.17).
            self._error = errno.ECONNRESET
            self.reset()
        else:
            if not self._in:
                self.came_at = self._heard_at
            self._in.append(data)
            self.in_size += len(data)
            self._received += len(data)
            self._acknowledge()
            self.changed()
        return True

    # -- the end ---------------------------------------------------------------------------------

    def _be_over(self) -> None:
        self._out.clear()
        super()._be_over()

    def vanish_end(self) -> None:
        self._out.clear()
        super().vanish_end()

    def _close_end(self) -> None:
        """What close(2) does to a connection."""
        self._take_acks()
        if self.state != OPEN:
            return
        last_ack = self.ended and self._fin_sent
        if self.in_size or (self.lingers and not self.linger_seconds and not last_ack):
            self.reset()
        else:
            self.shut |= NO_RECEIVE
            self._end_sending()

    # -- readiness -------------------------------------------------------------------------------

    def _writable(self) -> bool:
        # As Linux: when a third of the buffer is free (sk_stream_is_writeable).
        return 3 * (self._written - self._acked) < self.sndbuf

    def mask(self) -> int:
        state, shut = self.state, self.shut
        mask = ERROR if self._error else 0
        if state == CONNECTING:
            return mask
        if state == LISTENING:
            return READABLE if self.waiting else 0
        if self._acks:
            self._take_acks()
        if self.reads_at > self.network.now and not mask:
            # A slow reader does not look yet, and so can't be told of an end either.
            return WRITABLE if shut & NO_SEND or self._writable() else 0
        if shut == NEITHER or state == CLOSED:
            mask |= HANGUP
        if shut & NO_RECEIVE or self._in:
            mask |= READABLE
        if shut & NO_SEND or 3 * (self._written - self._acked) < self.sndbuf:
            mask |= WRITABLE
        return mask
