"""How many workers there should be, and what is to be done about it.

Neither processes nor a clock: the supervisor tells what has happened, and asks for the next step
until there is none. Each step follows from who is there now, not from what was planned when
something happened before; so the number comes back to what is wanted, whoever dies when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from anysock.workers.slots import MOST_WORKERS

# The most that may be wanted: while all are replaced, as many again are there that come to an end.
MOST_WANTED = MOST_WORKERS // 2

# A worker that dies sooner after its start than this, in seconds, or before it serves, has not
# worked.
QUICK_SECONDS = 1.0

# After so many deaths of that kind in a row, it is of no use to go on, if nobody serves. (At the
# very start, after so many workers that could not even be started, too.)
MOST_FAILURES = 5

# How long to wait before a worker is started again, at first and at most; it doubles each time.
FIRST_BACK_OFF = 0.1
MOST_BACK_OFF = 5.0


class Member(Protocol):
    """A worker, as far as it matters here."""

    #: When it was started, by the supervisor's clock.
    started_at: float
    #: Which code it has: how many reloads had been asked for when it was started.
    generation: int
    #: Whether it serves.
    ready: bool
    #: Whether it is told to end, for good.
    ending: bool


M = TypeVar("M", bound=Member)


@dataclass(frozen=True)
class Start:
    """Start a worker, and say whether that worked (`Staffing.started`, `Staffing.not_started`)."""


@dataclass(frozen=True)
class Retire(Generic[M]):
    """Let `member` accept nobody any more, and come to an end: `successor` has taken its place, or
    it is one too many."""

    member: M
    successor: M | None


class Staffing(Generic[M]):
    """The workers that there are, and those that are wanted."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        #: All whose process is there, in the order of their starts.
        self.members: list[M] = []
        #: Raised by each reload. Who has a smaller one is to be replaced.
        self.generation = 0
        #: Whether all that are wanted have served, once.
        self.complete_once = False
        #: When a worker may be started again; None: now.
        self.start_at: float | None = None
        self._quick_deaths = 0
        self._failed_starts = 0
        self._cause: object = None

    @property
    def living(self) -> list[M]:
        """Those that are to go on."""
        return [member for member in self.members if not member.ending]

    @property
    def serving(self) -> list[M]:
        """Those of them that serve."""
        return [member for member in self.living if member.ready]

    @property
    def old(self) -> list[M]:
        """Those of them that are to be replaced."""
        return [member for member in self.living if member.generation < self.generation]

    @property
    def complete(self) -> bool:
        """Whether all that are wanted serve, none of them with the code of before a reload."""
        living = self.living
        return len(living) >= self.wanted and all(each.ready for each in living) and not self.old

    @property
    def gives_up(self) -> bool:
        """Whether to go on is of no use. Never while somebody serves who has begun as wanted: one
        that can't be replaced must not take the others along."""
        failures = self._quick_deaths
        if not self.complete_once:
            return failures + self._failed_starts >= MOST_FAILURES
        return failures >= MOST_FAILURES and not self.serving

    @property
    def quick_deaths(self) -> int:
        """How many workers in a row have died before they had worked."""
        return self._quick_deaths

    # -- what is wanted ----------------------------------------------------------------------------

    def want_more(self) -> None:
        self.wanted = min(self.wanted + 1, MOST_WANTED)

    def want_less(self) -> bool:
        """False: one is the least."""
        if self.wanted == 1:
            return False
        self.wanted -= 1
        return True

    def reload(self) -> int:
        """Let all be replaced that are there; return how many."""
        self.generation += 1
        return len(self.old)

    # -- what happens ------------------------------------------------------------------------------

    def started(self, member: M) -> int:
        """A worker was started; return how many times that had failed before."""
        self.members.append(member)
        self.start_at = None
        failed, self._failed_starts, self._cause = self._failed_starts, 0, None
        return failed

    def not_started(self, cause: object, now: float) -> bool:
        """A worker could not be started; return whether the `cause` is another than last time."""
        self._failed_starts += 1
        self._wait(now, self._failed_starts)
        new, self._cause = cause != self._cause, cause
        return new

    def died(self, member: M, now: float) -> bool:
        """The process of a worker has ended. Return whether a reload ends with that: what was to
        take the place of others could not begin, and they stay."""
        self.members.remove(member)
        if member.ending:
            return False
        if member.ready and now - member.started_at >= QUICK_SECONDS:
            self._quick_deaths = 0
            return False
        self._quick_deaths += 1
        self._wait(now, self._quick_deaths)
        if member.ready or member.generation < self.generation or not self.old:
            return False
        for other in self.old:
            other.generation = self.generation
        return True

    def _wait(self, now: float, failures: int) -> None:
        self.start_at = now + min(FIRST_BACK_OFF * 2.0 ** min(failures - 1, 16), MOST_BACK_OFF)

    # -- what is to be done ------------------------------------------------------------------------

    def step(self, now: float) -> Start | Retire[M] | None:
        """What is to be done next; None: nothing, before something happens or `start_at` comes."""
        living, old = self.living, self.old
        starting = any(not member.ready for member in living)
        # While they are replaced, one by one, there is one more: it begins before another goes.
        surplus = len(living) - self.wanted - bool(old and starting)
        if surplus > 0:
            return self._retire()
        short = len(living) < self.wanted or (old and not starting)
        if short and (self.start_at is None or now >= self.start_at):
            return Start()
        if not short:
            self.start_at = None  # nobody waits for it
        if self.complete:
            self.complete_once = True
        return None

    def _retire(self) -> Retire[M]:
        """Whom nobody will miss: the oldest of those that are to be replaced, then the newest of
        those that do not serve yet, then the newest; but never the only one that serves."""
        serving, old = self.serving, self.old
        order = old + [each for each in reversed(self.living) if not each.ready] + serving[::-1]
        member = next(each for each in order if serving != [each])
        new = [each for each in serving if each.generation == self.generation]
        return Retire(member, new[-1] if new and member.generation < self.generation else None)
