"""What the server keeps of a connection, besides the connection; and when it has had its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from anysock.engines.base import Task
from anysock.errors import StreamAborted
from anysock.streams.connection import Connection
from anysock.streams.limiting import TooManyBytes
from anysock.telemetry.events import CloseReason

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

# A connection that waits for its peer, and has moved no byte for so long, is at rest: when the
# server drains, it is ended. Long enough for a client that is in the middle of something.
QUIET_SECONDS = 0.25

# How often connections are looked at in the shortest time that one may take for something, and
# the longest time between two looks.
LOOKS = 8
MOST_BETWEEN_LOOKS = 5.0

# How long a handler may take to come to its end after its connection has come to its own.
GRACE_SECONDS = 10.0

# Over how long the least rate is measured, where no idle timeout says how long one may take.
RATE_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class TimeLimits:
    """How long a connection may take for what, in seconds; None: as long as it likes."""

    idle: float | None
    write: float | None
    lifetime: float | None
    min_rate: float
    window: float

    @classmethod
    def of(cls, options: ServeOptions) -> Self:
        idle = options.idle_timeout or None
        return cls(
            idle=idle,
            write=options.write_timeout or None,
            lifetime=options.max_lifetime or None,
            min_rate=options.min_rate,
            window=idle or RATE_WINDOW_SECONDS,
        )

    @property
    def between_looks(self) -> float | None:
        """How long to wait between two looks at all connections; None: there is no limit."""
        window = self.window if self.min_rate else None
        finite = [each for each in (self.idle, self.write, self.lifetime, window) if each]
        return min(min(finite) / LOOKS, MOST_BETWEEN_LOOKS) if finite else None

    @property
    def grace(self) -> float:
        return min(self.idle or GRACE_SECONDS, GRACE_SECONDS)


class Served:
    """A connection that is served.

    Limits of time are kept by looking at the byte counters now and then. That costs the traffic
    nothing, where a timer or a clock read at every message would.
    """

    __slots__ = (
        "_to_cancel",
        "_told",
        "begun",
        "busy_at",
        "connection",
        "counted",
        "ended",
        "ended_at",
        "has_slot",
        "mark",
        "mark_at",
        "moved",
        "moved_at",
        "opened_at",
        "progress",
        "progress_at",
        "task",
    )

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.task: Task[object] | None = None
        #: Whether it has one of the slots, and whether its source is counted: both are to be given
        #: back when it leaves.
        self.has_slot = False
        self.counted = False
        #: Whether its handler has begun: the header of a proxy and the handshake of TLS are over.
        self.begun = False
        #: Why we have ended it, if we have; and when.
        self.ended: CloseReason | None = None
        self.ended_at = 0.0
        self._told = self._to_cancel = False
        self.opened_at = now
        #: What the last look has seen: bytes that have moved, and, of a send that waits, how far it
        #: has come; and since when that has been so.
        self.moved = 0
        self.moved_at = now
        self.progress: int | None = None
        self.progress_at = now
        #: When a drain has last seen that it waited for anything else than its peer's next word.
        self.busy_at = now
        self.mark = 0
        self.mark_at = now

    def begin(self, now: float) -> None:
        """It is prepared; its handler begins."""
        self.begun = True
        stream = self.connection.stream
        # All clocks begin here: the first look must find nothing new where nothing has moved.
        self.moved = self.mark = stream.bytes_received + stream.bytes_sent
        self.moved_at = self.progress_at = self.mark_at = now

    def _observe(self, now: float) -> None:
        """See what has moved since the last look; that a send has begun, or ended, counts, too."""
        stream = self.connection.stream
        moved = stream.bytes_received + stream.bytes_sent
        progress = stream.progress() if stream.sending else None
        if moved != self.moved or progress != self.progress:
            self.moved_at = now
        if progress is None or progress != self.progress:
            self.progress_at = now
        self.moved, self.progress = moved, progress

    def is_silent(self, now: float, limits: TimeLimits) -> bool:
        """Whether a look would end it because of what has not come or gone."""
        if self.ended is not None or not self.begun:
            return False
        self._observe(now)
        return (limits.write is not None and now - self.progress_at >= limits.write) or (
            limits.idle is not None and now - self.moved_at >= limits.idle
        )

    def excuse(self, seconds: float, now: float) -> None:
        """We were held up for so long: that it was silent meanwhile, nobody can say. (How long it
        has been here counts all the same.)"""
        self.moved_at = min(self.moved_at + seconds, now)
        self.progress_at = min(self.progress_at + seconds, now)
        self.busy_at = min(self.busy_at + seconds, now)
        self.mark_at = min(self.mark_at + seconds, now)
        self.ended_at = min(self.ended_at + seconds, now)

    def look(self, now: float, limits: TimeLimits) -> None:
        """End the connection if it has taken too long for something."""
        if self.ended is not None:
            if now - self.ended_at >= limits.grace:
                self.abort()
            return
        if limits.lifetime is not None and now - self.opened_at >= limits.lifetime:
            self.end(CloseReason.LIFETIME, now)
            return
        if not self.begun:
            return  # the handshake has a deadline of its own
        self._observe(now)
        if limits.write is not None and now - self.progress_at >= limits.write:
            self.end_at_once(CloseReason.WRITE_TIMEOUT, now)
        elif limits.idle is not None and now - self.moved_at >= limits.idle:
            self.end(CloseReason.IDLE, now)
            if self.progress is not None:
                self.abort()  # a peer that does not read would not notice anything else
        elif self._may_be_too_slow(now, limits):
            if self.moved - self.mark < limits.min_rate * (now - self.mark_at):
                self.end(CloseReason.TOO_SLOW, now)
            self.mark, self.mark_at = self.moved, now

    def _may_be_too_slow(self, now: float, limits: TimeLimits) -> bool:
        """Whether it is time to see how much has moved. Who has gone silent is none of these: the
        idle timeout ends it, where there is one."""
        if not limits.min_rate or now - self.mark_at < limits.window:
            return False
        return limits.idle is None or self.moved_at == now

    def rest(self, now: float) -> None:
        """The server drains: end the connection if it has been at rest for long enough."""
        stream = self.connection.stream
        self._observe(now)
        if stream.sending or not stream.receiving:
            self.busy_at = now
        elif now - max(self.moved_at, self.busy_at) >= QUIET_SECONDS and self.ended is None:
            self.ended, self.ended_at = CloseReason.DRAINED, now
            stream.end_receiving()

    def end(self, reason: CloseReason, now: float) -> None:
        """It has had its time. The handler gets the end of the stream; if it has not come to its
        own after a grace, it is aborted."""
        self.ended, self.ended_at = reason, now
        self.connection.draining = True
        self.connection.stream.end_receiving()

    def cost(self) -> float:
        """How much memory it holds for what it has moved since the last look: bytes for each."""
        stream = self.connection.stream
        return self.connection.held / (1 + stream.bytes_received + stream.bytes_sent - self.moved)

    def end_at_once(self, reason: CloseReason, now: float) -> None:
        """It is ended now, and not first told to come to its end."""
        self.ended, self.ended_at = reason, now
        self.abort()

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._to_cancel

    def abort_late(self) -> bool:
        """The time of the drain is over. Whatever it was being ended for, it is aborted, and that
        is what is told of it; unless a limit has aborted it already. True if it is aborted now."""
        if self.aborted:
            return False
        self.ended = CloseReason.ABORTED
        self.abort()
        return True

    def abort(self) -> None:
        """Let the peer have a reset, and the handler a cancellation; that once, since it may clean
        up."""
        self.connection.abort()
        self._to_cancel = True
        self._cancel()

    def runs_as(self, task: Task[object]) -> None:
        """Its task has begun; it may have been aborted before."""
        self.task = task
        if self._to_cancel:
            self._cancel()

    def _cancel(self) -> None:
        if self.task is not None and not self._told:
            self._told = True
            self.task.cancel()

    def how_it_ended(self) -> CloseReason:
        """Why the connection ended, when its handler has returned."""
        if self.ended is not None:
            return self.ended
        # A handler may have met the loss of the peer, and kept it to itself.
        lost = self.connection.stream.lost
        if isinstance(lost, TooManyBytes):
            return CloseReason.MAX_BYTES
        # Who is lost already can't be aborted any more, though a handler may well try.
        if isinstance(lost, StreamAborted) or (self.connection.aborted and lost is None):
            return CloseReason.ABORTED
        nothing_moved = self.connection.bytes_received == self.connection.bytes_sent == 0
        if nothing_moved and (lost is None or isinstance(lost, ConnectionResetError)):
            return CloseReason.NO_DATA  # health checks reset, too: that leaves nothing in TIME_WAIT
        return CloseReason.DONE if lost is None else CloseReason.LOST
