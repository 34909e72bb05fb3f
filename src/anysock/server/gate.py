"""The door of a server: clients come in one by one, when there is room for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from anysock.engines.base import Engine, Event, Listener, SockAddr
from anysock.server.accept_policy import LOG_INTERVAL_SECONDS, OncePer
from anysock.server.admission import Admission, Slots
from anysock.telemetry.events import CloseReason, Events

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

# A server that is full looks for itself so often, in seconds, whether there is room: should the
# word of another process be lost.
FULL_SECONDS = 1.0


class Door:
    """Where clients wait while accepting is paused, while the server is full, or when they come too
    fast. How many may be in, `slots` knows; who may, `Admission`."""

    def __init__(self, engine: Engine, slots: Slots, options: ServeOptions, events: Events) -> None:
        self.slots = slots
        #: Whether nobody is let in for now.
        self.paused = False
        #: Whether the server listens no more. Who was connected by then still comes in, paused or
        #: not, when there is room.
        self.closed = False
        #: Whether the time of the server's drain is over: nobody comes in any more.
        self.late = False
        self._engine = engine
        self._options = options
        self._admission = Admission(options, slots.most)
        self._events = events
        self._room: Event | None = None
        self._lock = threading.Lock()
        self._full_log = OncePer(LOG_INTERVAL_SECONDS)

    def look_again(self) -> None:
        """There may be room now, or something else has changed. To be called where tasks run."""
        if self._room is not None:
            self._room.set()

    async def has_room(self, listener: Listener) -> bool:
        """Leave clients in the backlog while there is no room for them. True if one has waited."""
        if self.closed or (
            not self.paused and (not self.slots.full or self._options.overflow == "close")
        ):
            return False
        return await self._until_room(listening=True) and listener.has_waiting()

    async def take_turn(self, waited: bool) -> CloseReason | None:
        """Wait until a client may be served that is accepted, and take a slot for it; or return why
        it is refused. `waited` says that it has waited in the backlog already."""
        close = self._options.overflow == "close"
        # The last of all, who were connected when the server stopped listening, would come in one
        # by one for longer than a drain may take.
        if close and not self.closed and not self._admission.in_time(self._engine.now()):
            return CloseReason.ACCEPT_RATE
        if not close and not self.closed and (pause := self._admission.pause(self._engine.now())):
            self._events.client_waited("accept_rate")
            self._tell_full("accept_rate", f"{self._options.accept_rate:g} connections a second")
            await self._while_listening(pause)
        # Others may have come since there was room: other listeners, other processes.
        while not self.late:
            if not self.paused or self.closed:
                if self.slots.take():
                    if waited:
                        self._events.client_waited("max_connections")
                    return None
                if close:
                    return CloseReason.OVERFLOW
            waited |= await self._until_room()
        return CloseReason.ABORTED

    def give_back(self) -> None:
        """One that had taken its turn has left."""
        self.slots.give_back()
        self.look_again()

    def judge(self, peer: SockAddr) -> CloseReason | None:
        """Why a peer may not come in; None: it may, and its source is counted until `leave`."""
        return self._admission.judge(peer)

    def leave(self, peer: SockAddr) -> None:
        """A peer whose source is counted has left."""
        self._admission.leave(peer)

    async def _until_room(self, *, listening: bool = False) -> bool:
        """Wait until there is room; with `listening`, no longer than the server listens. True if
        there was none; false if accepting was only paused."""
        for_room = False
        while True:
            room = self._next_room()
            if self.late or (listening and self.closed):
                break
            if not self.paused or self.closed:
                if not self.slots.full:
                    break
                if not for_room:
                    self._tell_full("max_connections", f"{self.slots.most} connections")
                for_room = True
            async with self._engine.scope(FULL_SECONDS):
                await room.wait()
        return for_room

    async def _while_listening(self, seconds: float) -> None:
        """Let `seconds` pass, unless the server stops listening before."""
        end = self._engine.now() + seconds
        while (left := end - self._engine.now()) > 0:
            room = self._next_room()
            if self.closed:
                break
            async with self._engine.scope(left):
                await room.wait()

    def _next_room(self) -> Event:
        """Set when there may be room. To be asked for before the look whether there is, since room
        may be made at any moment, under `threads`."""
        # Acceptors on several threads must not wait for one that another has replaced.
        with self._lock:
            if self._room is None or self._room.is_set():
                self._room = self._engine.event()
            return self._room

    def _tell_full(self, limit: str, text: str) -> None:
        if self._full_log.allow(self._engine.now()) is not None:
            self._events.limit_met(limit, text)
