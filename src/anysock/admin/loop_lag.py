"""Event-loop lag: how late a task wakes that sleeps for a fixed time, again and again."""

from __future__ import annotations

from collections.abc import Callable

from anysock.engines.current import current_engine
from anysock.engines.engine_thread import clock as machine_clock

# Seconds between two wake-ups. A step that holds up the engine for longer is always noticed, a
# shorter one sometimes. The 4 wake-ups a second cost 0.1 % of a core, measured.
INTERVAL_SECONDS = 0.25

# Seconds for which the highest lag is kept, at least; at most twice that.
KEEP_SECONDS = 60.0


class LoopLagProbe:
    """How late an engine wakes its tasks. `run` is to be one of them; all else may be called from
    any thread.

    `clock` must be readable from any thread. `each` is called at each wake-up, on the engine.
    """

    def __init__(
        self,
        clock: Callable[[], float] = machine_clock,
        each: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._each = each
        #: When the task should next wake; None until it has begun.
        self._due: float | None = None
        self._last = 0.0
        # The engine's own clock, minus ours.
        self._ahead = 0.0
        # The highest lag of this interval of `KEEP_SECONDS`, and of the one before.
        self._highest = 0.0
        self._highest_before = 0.0
        self._kept_since = 0.0

    async def run(self) -> None:
        """Probe until cancelled."""
        engine = current_engine()
        self._kept_since = self._clock()
        try:
            while True:
                now = self._clock()
                self._ahead = engine.now() - now
                self._due = now + INTERVAL_SECONDS
                await engine.sleep(INTERVAL_SECONDS)
                self._last = max(self._clock() - self._due, 0.0)
                self._keep(self._last)
                self._each()
        finally:
            self._due = None

    def _keep(self, lag: float) -> None:
        now = self._clock()
        if now - self._kept_since >= KEEP_SECONDS:
            self._highest_before, self._highest, self._kept_since = self._highest, 0.0, now
        self._highest = max(self._highest, lag)

    def now(self) -> float:
        """The value of `Engine.now`, which itself can only be called where tasks run."""
        return self._clock() + self._ahead

    @property
    def lag(self) -> float:
        """Seconds by which the last wake-up was late, or the current one is overdue: the larger."""
        return max(self._last, self.overdue)

    @property
    def overdue(self) -> float:
        """Seconds by which the current wake-up is overdue; 0 if it is not."""
        return 0.0 if self._due is None else max(self._clock() - self._due, 0.0)

    @property
    def highest(self) -> float:
        """The highest lag of the last minute (or two), in seconds."""
        return max(self.lag, self._highest, self._highest_before)
