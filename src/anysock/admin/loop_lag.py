"""The pulse of an engine: a task that wakes regularly, and how late it does."""

from __future__ import annotations

from collections.abc import Callable

from anysock.engines.current import current_engine
from anysock.engines.engine_thread import clock as machine_clock

# How often the engine is asked to wake the task. What holds it up for longer is always seen, and
# what is shorter, sometimes. It costs 4 wake-ups a second: 0.1 % of a core, measured.
BEAT_SECONDS = 0.25

# For how long the highest lag is kept, at least; and at most twice as long.
KEEP_SECONDS = 60.0


class Pulse:
    """How late an engine comes to what is due. `beat` is to run as one of its tasks; the rest may
    be asked from any thread.

    `clock` is one that all threads may read.
    """

    def __init__(self, clock: Callable[[], float] = machine_clock) -> None:
        self._clock = clock
        #: When the task should next wake; None until it has begun.
        self._due: float | None = None
        self._last = 0.0
        # What the engine's own clock says, less what ours says.
        self._ahead = 0.0
        # The highest of the time now, and of the time before.
        self._highest = 0.0
        self._highest_before = 0.0
        self._kept_since = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        engine = current_engine()
        self._kept_since = self._clock()
        try:
            while True:
                now = self._clock()
                self._ahead = engine.now() - now
                self._due = now + BEAT_SECONDS
                await engine.sleep(BEAT_SECONDS)
                self._last = max(self._clock() - self._due, 0.0)
                self._keep(self._last)
        finally:
            self._due = None

    def _keep(self, lag: float) -> None:
        now = self._clock()
        if now - self._kept_since >= KEEP_SECONDS:
            self._highest_before, self._highest, self._kept_since = self._highest, 0.0, now
        self._highest = max(self._highest, lag)

    def now(self) -> float:
        """What `Engine.now` would say, which can only be asked where tasks run."""
        return self._clock() + self._ahead

    @property
    def lag(self) -> float:
        """How late the task woke last; or, if it is overdue, for how long it is by now: seconds."""
        return max(self._last, self.overdue)

    @property
    def overdue(self) -> float:
        """For how long the task should have been awake, in seconds; 0 if it sleeps as it should."""
        return 0.0 if self._due is None else max(self._clock() - self._due, 0.0)

    @property
    def highest(self) -> float:
        """The most that it was late in the last minute (or two), in seconds."""
        return max(self.lag, self._highest, self._highest_before)
