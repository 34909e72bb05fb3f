"""When a connection may come in: while the server is full, paused, or too fast, peers wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from anysock.engines.base import Engine, Event, Listener, SockAddr
from anysock.server.accept_policy import LOG_INTERVAL_SECONDS, OncePer
from anysock.server.admission import Admission, Slots
from anysock.server.phase import Life
from anysock.telemetry.events import CloseReason, Events

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

# Seconds after which a full server checks for itself whether there is room, should the word of
# another process be lost.
FULL_SECONDS = 1.0


class AdmissionGate:
    """Where peers wait while accepting is paused (`life` knows that), while the server is full
    (`slots`), or when they come too fast (`Admission`, which also refuses some)."""

    def __init__(
        self, engine: Engine, life: Life, slots: Slots, options: ServeOptions, events: Events
    ) -> None:
        self._engine = engine
        self._life = life
        self._slots = slots
        self._options = options
        self._admission = Admission(options, slots.most)
        self._events = events
        self._room: Event | None = None
        self._lock = threading.Lock()
        self._full_log = OncePer(LOG_INTERVAL_SECONDS)

    def notify(self) -> None:
        """There may be room now, or the server's phase has changed. To be called where tasks
        run."""
        if self._room is not None:
            self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether no peer need wait in the backlog."""
        life = self._life
        return life.stopped_listening or (
            not life.paused and (not self._slots.full or self._options.overflow == "close")
        )

    async def until_room(self, listener: Listener) -> bool:
        """Leave peers in the backlog until there is room for them. True if one has waited."""
        return await self._until_room(listening=True) and listener.has_waiting()

    def take_at_once(self, now: float) -> bool:
        """Take a slot for a peer that was accepted `now`, if it need not wait; else `take_slot`
        says more."""
        life = self._life
        if life.paused or life.stopped_listening or not self._slots.take():
            return False
        if self._admission.in_time(now):
            return True
        self._slots.give_back()
        return False

    async def take_slot(self, waited: bool) -> CloseReason | None:
        """Wait until an accepted peer may be served, and take a slot for it; or return why it is
        refused. `waited` says that it has waited in the backlog already."""
        close = self._options.overflow == "close"
        # Peers of the backlog, once the server has stopped listening, would come in one by one for
        # longer than a drain may take: the rate is not for them.
        if self._admission.has_rate and not self._stopped:
            if close:
                if not self._admission.in_time(self._engine.now()):
                    return CloseReason.ACCEPT_RATE
            elif delay := self._admission.delay(self._engine.now()):
                self._events.client_waited("accept_rate")
                rate = f"{self._options.accept_rate:g} connections a second"
                self._tell_full("accept_rate", rate)
                await self._while_listening(delay)
        # Others may have come since there was room: other listeners, other processes.
        while not self._life.phase.admits_nobody:
            if self._is_open:
                if self._slots.take():
                    if waited:
                        self._events.client_waited("max_connections")
                    return None
                if close:
                    return CloseReason.OVERFLOW
            waited |= await self._until_room()
        return CloseReason.ABORTED

    def give_back(self) -> None:
        """A connection that had a slot has ended."""
        self._slots.give_back()
        self.notify()

    def judge(self, peer: SockAddr) -> CloseReason | None:
        """Why a peer may not come in; None: it may, and its source is counted until `leave`."""
        return self._admission.judge(peer)

    @property
    def judges(self) -> bool:
        """Whether there is any peer that may not come in, or anything to count."""
        return self._admission.judges

    def leave(self, peer: SockAddr) -> None:
        """A peer whose source is counted has left."""
        self._admission.leave(peer)

    @property
    def draining(self) -> bool:
        """Whether the server drains its connections."""
        return self._life.phase.draining

    @property
    def _stopped(self) -> bool:
        return self._life.stopped_listening

    @property
    def _is_open(self) -> bool:
        """Whether peers come in, if there is room. A pause is not for those of the backlog, once
        the server has stopped listening."""
        return self._stopped or not self._life.paused

    async def _until_room(self, *, listening: bool = False) -> bool:
        """Wait until there is room; with `listening`, no longer than the server listens. True if
        there was none; false if accepting was only paused."""
        for_room = False
        while True:
            room = self._next_room()
            if self._life.phase.admits_nobody or (listening and self._stopped):
                break
            if self._is_open:
                if not self._slots.full:
                    break
                if not for_room:
                    self._tell_full("max_connections", f"{self._slots.most} connections")
                for_room = True
            async with self._engine.scope(FULL_SECONDS):
                await room.wait()
        return for_room

    async def _while_listening(self, seconds: float) -> None:
        """Let `seconds` pass, unless the server stops listening before."""
        end = self._engine.now() + seconds
        while (left := end - self._engine.now()) > 0:
            room = self._next_room()
            if self._stopped:
                break
            async with self._engine.scope(left):
                await room.wait()

    def _next_room(self) -> Event:
        """Set when there may be room. To be asked for before the check whether there is, since room
        may be made at any moment, under `threads`."""
        # Acceptors on several threads must not wait for one that another has replaced.
        with self._lock:
            if self._room is None or self._room.is_set():
                self._room = self._engine.event()
            return self._room

    def _tell_full(self, limit: str, text: str) -> None:
        if self._full_log.allow(self._engine.now()) is not None:
            self._events.limit_met(limit, text)
