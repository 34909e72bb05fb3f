"""The life of a server: one state, and one table of where it may go from there."""

from __future__ import annotations

import enum
import threading


class Phase(enum.IntEnum):
    """Where a server is in its life. It never goes back::

    NEW ──▶ STARTING ──▶ LISTENING ──▶ LEAVING ──┐
     │         │            │  │                 │
     │         │            │  └─────▶ RETIRING ─┤
     │         │            │                    ▼
     └─────────┴────────────┴───────────────▶ DRAINING ──▶ CLOSING ──▶ ENDED
    """

    #: It is made, and does not listen yet.
    NEW = enum.auto()
    #: Its addresses are bound, and its lifespan has not begun yet, or is at its start.
    STARTING = enum.auto()
    #: Its addresses are bound. Peers wait in the backlog until somebody runs the server, and are
    #: accepted from then on.
    LISTENING = enum.auto()
    #: It was told to end, and is no longer ready; until the option `drain_delay` is over it accepts
    #: the clients that a load balancer still sends.
    LEAVING = enum.auto()
    #: Its successor listens. It does not, and its connections come to their own end.
    RETIRING = enum.auto()
    #: It does not listen. Peers of the backlog are still served, and quiet connections are ended.
    DRAINING = enum.auto()
    #: The time of the drain is over. Nobody comes in, and the remaining connections are aborted.
    CLOSING = enum.auto()
    #: All is closed.
    ENDED = enum.auto()

    @property
    def told_to_end(self) -> bool:
        """Whether a load balancer should send no more clients, since the server comes to an end."""
        return self >= _LEAVING

    @property
    def stopped_listening(self) -> bool:
        """Whether the server listens no more: only peers of the backlog still come in."""
        return self >= _RETIRING

    @property
    def draining(self) -> bool:
        """Whether a drain has begun, or is over."""
        return self >= _DRAINING

    @property
    def admits_nobody(self) -> bool:
        """Whether no peer comes in any more, be it one that was accepted."""
        return self >= _CLOSING


# Each connection asks several times; to look a member up in its class takes longer than to compare.
_LEAVING, _RETIRING, _DRAINING, _CLOSING = map(
    int, (Phase.LEAVING, Phase.RETIRING, Phase.DRAINING, Phase.CLOSING)
)

#: The phases that may follow each phase.
FOLLOWING = {
    Phase.NEW: {Phase.STARTING, Phase.DRAINING},
    Phase.STARTING: {Phase.LISTENING, Phase.DRAINING},
    Phase.LISTENING: {Phase.LEAVING, Phase.RETIRING, Phase.DRAINING},
    Phase.LEAVING: {Phase.DRAINING},
    Phase.RETIRING: {Phase.DRAINING},
    Phase.DRAINING: {Phase.CLOSING},
    Phase.CLOSING: {Phase.ENDED},
    Phase.ENDED: set(),
}


class Life:
    """The phase of a server, and two facts that may hold in any phase: somebody runs it; accepting
    is paused. May be used from any thread."""

    def __init__(self) -> None:
        self.phase = Phase.NEW
        #: As `Phase.stopped_listening` of it: each connection asks.
        self.stopped_listening = False
        #: Whether accepting is paused. (Peers of the backlog come in all the same once the server
        #: has stopped listening: otherwise nobody would serve them.)
        self.paused = False
        self._claimed = False
        self._lock = threading.Lock()

    def advance(self, phase: Phase) -> bool:
        """Go on to `phase`. False, and nothing changes, when it does not follow the present one:
        another caller was quicker, or the server is further on."""
        with self._lock:
            if phase not in FOLLOWING[self.phase]:
                return False
            self.phase = phase
            self.stopped_listening = phase.stopped_listening
            return True

    def claim(self) -> bool:
        """Take the server to run it; false when somebody runs it already, or has. The claim is
        granted once, even if the server was drained before anybody ran it."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
            return not claimed

    @property
    def claimed(self) -> bool:
        """Whether somebody runs the server, or has."""
        return self._claimed

    def set_paused(self, paused: bool) -> bool:
        """Pause accepting, or resume it; false when that changes nothing."""
        with self._lock:
            changed = self.paused != paused
            self.paused = paused
            return changed
