"""The way from one end of a TCP connection to the other: segments, and what becomes of a connection
whose segments get no answer. `tcp` explains the model.
"""

from __future__ import annotations

import collections
import errno
import socket
from typing import Any, Final
from zlib import crc32

from anysock.engines.sim.agenda import Due
from anysock.engines.sim.fates import Fate
from anysock.engines.sim.host import Host
from anysock.engines.sim.links import Link
from anysock.engines.sim.sockets import KEEPCNT, KEEPIDLE, KEEPINTVL, SimSocket

# States. Linux's have other names, and are more: which of FIN_WAIT1, CLOSE_WAIT and so on an open
# connection is in, is what `shut`, `ended` and `_fin_sent` say.
CLOSED: Final = 0
LISTENING: Final = 1
CONNECTING: Final = 2
OPEN: Final = 3

# Bits of `shut`.
NO_RECEIVE: Final = 1
NO_SEND: Final = 2
NEITHER: Final = 3

# Kinds of segments. A SYN is none of them: see `tcp`.
DATA: Final = "data"
FIN: Final = "fin"
RST: Final = "rst"
ACK: Final = "ack"

# After how long what was sent and not acknowledged is given up (tcp(7), tcp_retries2).
GIVES_UP_SECONDS: Final = 924.6

_KEEPALIVE: Final = socket.SOL_SOCKET, socket.SO_KEEPALIVE


class TcpWay(SimSocket):
    """What is on the way to the other end, and the end of it all."""

    __slots__ = (
        "_error",
        "_flight",
        "_gap",
        "_give_up",
        "_heard_at",
        "_last_arrival",
        "_probes",
        "_stuck",
        "_watch",
        "far",
        "fate",
        "link",
        "local",
        "network",
        "peer",
        "severed",
        "shut",
        "state",
    )

    kind = "tcp"

    def __init__(self, host: Host, family: Any) -> None:
        super().__init__(host, family, socket.SOCK_STREAM)
        self.network = host.network
        self.state = CLOSED
        #: What is over: by shutdown(2), by the end that has come, by a reset.
        self.shut = 0
        self._error = 0
        #: Its names, its other end, and the way there; None before there are any.
        self.local: tuple[Any, ...] | None = None
        self.peer: tuple[Any, ...] | None = None
        self.far: TcpWay | None = None
        self.link: Link | None = None
        # What is on its way to the other end, in order; when the last of it arrives; and how many
        # segments at its head could not be delivered.
        self._flight: collections.deque[tuple[str, bytes]] = collections.deque()
        self._last_arrival = 0.0
        self._stuck = 0
        # When it is given up that no acknowledgement comes; when the other end was last heard; and
        # what asks whether it is still there, how often it has asked.
        self._give_up: Due | None = None
        self._heard_at = 0.0
        self._watch: Due | None = None
        self._probes = 0
        #: What goes wrong with it (see `tcp_faults`); None: nothing.
        self.fate: Fate | None = None
        #: Whether the other end has vanished without a word: nothing comes, and nothing gets there.
        self.severed = False
        # How much later than the one before the next segment comes, at least.
        self._gap = 0.0

    def receive(self, what: str, data: bytes) -> bool:
        """A segment arrives from the other end. False: it is dropped, and must be repeated."""
        raise NotImplementedError

    # -- segments --------------------------------------------------------------------------------

    def _transmit(self, what: str, data: bytes = b"") -> None:
        link, far, network = self.link, self.far, self.network
        assert link is not None
        assert far is not None
        if data:
            carried = crc32(data, network.carried) if network.exact else 0
            network.carried = carried
            network.note(self.host.name, what, link.to, len(data), carried)
        else:
            network.note(self.host.name, what, link.to, 0)
        if self.severed:
            self.await_answer()
            return
        delay = link.delay(len(data))
        if self.fate is not None:
            if self.fate.jitter is not None:
                delay += self.fate.jitter.next()
            if self._gap:
                delay = max(delay, self._last_arrival + self._gap - network.now)
                self._gap = 0.0
        if not delay and not self._flight and link.up and far.receive(what, data):
            return
        self._flight.append((what, data))
        self._last_arrival = max(network.now + delay, self._last_arrival)
        network.at(self._last_arrival, self._arrive)

    def _arrive(self) -> None:
        """The next segment arrives, and with it those that could not be delivered before."""
        link, far, flight = self.link, self.far, self._flight
        assert link is not None
        assert far is not None
        if len(flight) <= self._stuck:
            return  # it was severed meanwhile
        self._stuck += 1
        if not link.up:
            if self.state == OPEN or link.keeps:
                link.when_up(self._repeat)
                self.await_answer()
            else:
                self._lose_last_words()
            return
        while self._stuck:
            self._stuck -= 1
            segment = flight.popleft()
            if not far.receive(*segment):
                flight.appendleft(segment)
                self._stuck += 1
                return

    def _lose_last_words(self) -> None:
        """Nobody is there any more who would repeat what was lost: the other end has to find out
        that we are gone, by what it sends."""
        self._flight.clear()
        self._stuck = 0
        self.network.severed.append(self)
        link, far = self.link, self.far
        assert link is not None
        assert far is not None
        far.watch_over()
        if far.sends_again:
            far.await_answer()
            link.when_up(self._refuse_again)

    @property
    def sends_again(self) -> bool:
        """Whether its system sends something until it is answered."""
        raise NotImplementedError

    def _refuse_again(self) -> None:
        """What the other end sends once more arrives at an end that is closed, as before."""
        link, far = self.link, self.far
        assert link is not None
        assert far is not None
        assert far.link is not None
        if far.state != OPEN or self.severed:
            return
        if far.link.up:
            self._transmit(RST)
        else:
            far.link.when_up(self._refuse_again)

    def _repeat(self) -> None:
        """Send again what could not be delivered."""
        if self._stuck:
            assert self.link is not None
            self._stuck -= 1
            when = max(self.network.now + self.link.delay(0), self._last_arrival)
            self._last_arrival = when
            self.network.at(when, self._arrive)

    def await_answer(self) -> None:
        """Something was sent that is not answered: that can go on for only so long."""
        if self._give_up is None and self.state == OPEN:
            self._give_up = self.network.after(GIVES_UP_SECONDS, self.time_out)

    def _forget_to_give_up(self) -> None:
        if self._give_up is not None:
            self.network.cancel(self._give_up)
            self._give_up = None

    # -- is it still there? ----------------------------------------------------------------------

    def watch_over(self) -> None:
        """Nothing gets to the other end, or nothing from there: find out in time, if the program
        wants that (tcp(7), SO_KEEPALIVE)."""
        if self._watch is None and self.state == OPEN and self.options.get(_KEEPALIVE):
            self._probes = 0
            idle = self._option(*KEEPIDLE)
            when = max(self._heard_at + idle, self.network.now)
            self._watch = self.network.at(when, self._probe)

    def _probe(self) -> None:
        self._watch = None
        if self.state != OPEN:
            return
        far, link = self.far, self.link
        assert far is not None
        assert far.link is not None
        assert link is not None
        if link.up and far.link.up and not self.severed:
            if far.state == CLOSED:
                self._lose(errno.ECONNRESET)  # its system knows nothing of the connection
        elif self._probes == self._option(*KEEPCNT):
            self.time_out()
        else:
            self._probes += 1
            self._watch = self.network.after(self._option(*KEEPINTVL), self._probe)

    # -- the end ---------------------------------------------------------------------------------

    def reset(self) -> None:
        """Give the connection up, and tell the other end."""
        if self.state == OPEN:
            self._be_over()
            assert self.link is not None
            if self._stuck and not self.link.keeps:
                # It is not sent again; and what comes behind it can't be read without it.
                self._flight = collections.deque([(ACK, b"")] * len(self._flight))
            self._transmit(RST)

    def _lose(self, code: int) -> None:
        """The connection is gone."""
        if self.state == OPEN:
            self._error = code
            self._be_over()

    def _be_over(self) -> None:
        self.state = CLOSED
        self.shut = NEITHER
        self._forget_to_give_up()
        self.changed()

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

    def vanish_end(self) -> None:
        """Its machine has lost its power. What comes for it later is answered by a reset."""
        self.state, self.shut = CLOSED, NEITHER
        self._flight.clear()
        self._stuck = 0

    def sever(self) -> None:
        """From now on nothing gets from one end to the other, and neither is told."""
        for end in (self, self.far):
            if end is not None:
                end.severed = True
                if end._flight:
                    end._flight.clear()
                    end._stuck = 0
                    end.await_answer()
                end.watch_over()

    def take_error(self) -> int:
        code, self._error = self._error, 0
        return code
