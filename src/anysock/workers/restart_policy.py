"""When a worker may be started again, and when to give up. Pure: every method is told the time."""

from __future__ import annotations

# A worker that dies within this time after its start, in seconds, or before it serves, has not
# worked.
QUICK_SECONDS = 1.0

# After this many such deaths in a row, restarting is of no use if no worker serves. (At the very
# start, workers that could not even be started count, too.)
MAX_FAILURES = 5

# How long to wait before a worker is started again, in seconds: at first and at most. The delay
# doubles with each failure in a row.
FIRST_BACK_OFF_SECONDS = 0.1
MAX_BACK_OFF_SECONDS = 5.0


class RestartPolicy:
    """Counts what fails in a row; times are the caller's, in seconds."""

    def __init__(self) -> None:
        #: When a worker may be started again; None: now.
        self.start_at: float | None = None
        #: How many workers in a row have died before they had worked.
        self.quick_deaths = 0
        self._failed_starts = 0
        self._cause: object = None

    def may_start(self, now: float) -> bool:
        """Whether the delay after the last failure is over."""
        return self.start_at is None or now >= self.start_at

    def forget_delay(self) -> None:
        """No worker waits to be started."""
        self.start_at = None

    def started(self) -> int:
        """A worker was started; return how many attempts in a row had failed before."""
        self.start_at = None
        failed, self._failed_starts, self._cause = self._failed_starts, 0, None
        return failed

    def not_started(self, cause: object, now: float) -> bool:
        """A worker could not be started; return whether the `cause` differs from the last one."""
        self._failed_starts += 1
        self._delay(now, self._failed_starts)
        new, self._cause = cause != self._cause, cause
        return new

    def died(self, *, served: bool, age: float, now: float) -> bool:
        """A worker has died at that `age`, in seconds. Return whether that was too quick."""
        if served and age >= QUICK_SECONDS:
            self.quick_deaths = 0
            return False
        self.quick_deaths += 1
        self._delay(now, self.quick_deaths)
        return True

    def gives_up(self, *, complete_once: bool, serving: bool) -> bool:
        """Whether going on is of no use. `complete_once`: whether all workers have served, once;
        from then on, never while one is `serving`: a worker that can't be replaced must not take
        the others along."""
        if not complete_once:
            return self.quick_deaths + self._failed_starts >= MAX_FAILURES
        return self.quick_deaths >= MAX_FAILURES and not serving

    def _delay(self, now: float, failures: int) -> None:
        delay = FIRST_BACK_OFF_SECONDS * 2.0 ** min(failures - 1, 16)
        self.start_at = now + min(delay, MAX_BACK_OFF_SECONDS)
