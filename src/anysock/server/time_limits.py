"""When a connection has had its time: decided from byte counters and a clock.

The counters are sampled now and then. That costs the traffic nothing, where a timer or a reading of
the clock for each message would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from anysock.engines.base import Stream
from anysock.telemetry.events import CloseReason

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

# Seconds without traffic after which a connection that waits for its peer counts as idle during a
# drain. Long enough for a client that is in the middle of something.
QUIET_SECONDS = 0.25

# How often connections are checked within the shortest of their limits, and the most seconds
# between two checks.
CHECKS_PER_LIMIT = 8
MAX_CHECK_SECONDS = 5.0

# Seconds that a handler has to return in, after the stream of its connection was ended.
GRACE_SECONDS = 10.0

# Seconds over which the minimum rate is measured where there is no idle timeout.
RATE_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class TimeLimits:
    """How many seconds a connection may take for what; None: as many as it likes."""

    idle: float | None
    write: float | None
    lifetime: float | None
    #: Bytes a second, on average over `window`; 0: no minimum.
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
    def check_interval(self) -> float | None:
        """Seconds between two checks of all connections; None: there is no limit to check."""
        window = self.window if self.min_rate else None
        finite = [each for each in (self.idle, self.write, self.lifetime, window) if each]
        return min(min(finite) / CHECKS_PER_LIMIT, MAX_CHECK_SECONDS) if finite else None

    @property
    def grace(self) -> float:
        """Seconds after which an ended connection is aborted."""
        return min(self.idle or GRACE_SECONDS, GRACE_SECONDS)


class Activity:
    """What has moved on one connection, and since when nothing has, as of the last sample."""

    __slots__ = (
        "_busy_at",
        "_handled",
        "_moved_at",
        "_progress_at",
        "_sampled",
        "_window_at",
        "_window_moved",
        "opened_at",
        "progress",
    )

    def __init__(self, now: float) -> None:
        #: When its time began to count.
        self.opened_at = now
        #: How far a waiting send has come; None: no send waits.
        self.progress: int | None = None
        # Whether its handler has begun: before that, the handshake has a deadline of its own.
        self._handled = False
        # The bytes that have moved; when they, or a waiting send, last did; and since when the
        # present send has waited without progress.
        self._sampled = 0
        self._moved_at = now
        self._progress_at = now
        # When a drain last saw that the handler waited for anything but the peer's next word.
        self._busy_at = now
        # Where the present window of the minimum rate began.
        self._window_moved = 0
        self._window_at = now

    def begin(self, stream: Stream, now: float) -> None:
        """The handler begins, and with it all clocks but the lifetime's."""
        self._handled = True
        # The first sample must find nothing new where nothing has moved.
        self._sampled = self._window_moved = _moved(stream)
        self._moved_at = self._progress_at = self._busy_at = self._window_at = now

    def since_sample(self, stream: Stream) -> int:
        """How many bytes have moved since the last sample."""
        return _moved(stream) - self._sampled

    def excuse(self, seconds: float, now: float) -> None:
        """The server was held up for `seconds`, so that nobody knows whether the connection was
        silent meanwhile. (Its lifetime goes on all the same.)"""
        self._moved_at = min(self._moved_at + seconds, now)
        self._progress_at = min(self._progress_at + seconds, now)
        self._busy_at = min(self._busy_at + seconds, now)
        self._window_at = min(self._window_at + seconds, now)

    def is_silent(self, stream: Stream, now: float, limits: TimeLimits) -> bool:
        """Whether `overdue` would blame it for what has not come or gone."""
        return self._handled and self._silence(stream, now, limits) is not None

    def overdue(self, stream: Stream, now: float, limits: TimeLimits) -> CloseReason | None:
        """The limit that the connection has exceeded; None: it may go on."""
        if limits.lifetime is not None and now - self.opened_at >= limits.lifetime:
            return CloseReason.LIFETIME
        if not self._handled:
            return None
        return self._silence(stream, now, limits) or self._slowness(now, limits)

    def is_at_rest(self, stream: Stream, now: float) -> bool:
        """Whether its handler waits in `recv`, and nothing has moved for `QUIET_SECONDS`. To be
        asked again and again during a drain.

        What has come, and the handler was not told of, has moved: after the process was stopped, or
        a step was slow, it may lie there for longer than that.
        """
        self._sample(stream, now)
        if stream.sending or not stream.receiving:
            self._busy_at = now
            return False
        if now - max(self._moved_at, self._busy_at) < QUIET_SECONDS:
            return False
        if stream.has_come():
            self._busy_at = now
            return False
        return True

    def _sample(self, stream: Stream, now: float) -> None:
        """See what has moved since the last sample. A send that has begun, or ended, counts too."""
        moved = _moved(stream)
        progress = stream.progress() if stream.sending else None
        if moved != self._sampled or progress != self.progress:
            self._moved_at = now
        if progress is None or progress != self.progress:
            self._progress_at = now
        self._sampled, self.progress = moved, progress

    def _silence(self, stream: Stream, now: float, limits: TimeLimits) -> CloseReason | None:
        self._sample(stream, now)
        if limits.write is not None and now - self._progress_at >= limits.write:
            return CloseReason.WRITE_TIMEOUT
        if limits.idle is not None and now - self._moved_at >= limits.idle:
            return CloseReason.IDLE
        return None

    def _slowness(self, now: float, limits: TimeLimits) -> CloseReason | None:
        """Once a window: whether less has moved than the minimum rate wants. A connection that has
        gone silent is left to the idle timeout, where there is one."""
        seconds = now - self._window_at
        if not limits.min_rate or seconds < limits.window:
            return None
        if limits.idle is not None and self._moved_at != now:
            return None
        moved = self._sampled - self._window_moved
        self._window_moved, self._window_at = self._sampled, now
        return CloseReason.TOO_SLOW if moved < limits.min_rate * seconds else None


def _moved(stream: Stream) -> int:
    moved: int = stream.bytes_received + stream.bytes_sent
    tls = stream.tls
    if tls is not None:
        # Of a record of TLS that is not whole yet, nothing else is seen, however long it takes.
        moved += tls.partial
        if not tls.established:
            # A handshake brings no data. (Later on, who sends records without any is silent.)
            moved += tls.opened
    return moved
