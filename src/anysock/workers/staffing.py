"""How many workers there should be, and the next step towards that number.

Pure, without processes or a clock: the supervisor reports what has happened, and asks for the next
step until there is none. Each step follows from the workers that exist now, not from an earlier
plan; so their number always comes back to the wanted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from anysock.workers.reload import Generational, Reload
from anysock.workers.restart_policy import RestartPolicy
from anysock.workers.slots import MAX_WORKERS

# The maximum of wanted workers. While all are replaced, as many old ones are still about to end.
MAX_WANTED = MAX_WORKERS // 2


class Member(Generational, Protocol):
    """A worker, as far as it matters here."""

    #: When it was started, by the supervisor's clock.
    started_at: float
    #: Whether it was told to end, for good.
    ending: bool


M = TypeVar("M", bound=Member)


@dataclass(frozen=True)
class Start:
    """Start a worker, and report whether that worked: `Staffing.started`, or
    `RestartPolicy.not_started`."""


@dataclass(frozen=True)
class Retire(Generic[M]):
    """Let `member` accept no more connections, and end: `successor` has taken its place, or there
    is one worker too many."""

    member: M
    successor: M | None


class Staffing(Generic[M]):
    """The workers that exist, and the number that is wanted."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        #: All workers whose process exists, in the order of their starts.
        self.members: list[M] = []
        #: Whether all wanted workers have served, once.
        self.complete_once = False
        self.restarts = RestartPolicy()
        self.reload = Reload()

    @property
    def living(self) -> list[M]:
        """The workers that are to go on."""
        return [member for member in self.members if not member.ending]

    @property
    def serving(self) -> list[M]:
        """The living workers that serve."""
        return [member for member in self.living if member.ready]

    @property
    def old(self) -> list[M]:
        """The living workers that are to be replaced."""
        return self.reload.old(self.living)

    @property
    def complete(self) -> bool:
        """Whether all wanted workers serve, and none of them is old."""
        living = self.living
        return len(living) >= self.wanted and all(each.ready for each in living) and not self.old

    @property
    def gives_up(self) -> bool:
        """Whether going on is of no use."""
        return self.restarts.gives_up(complete_once=self.complete_once, serving=bool(self.serving))

    # -- what is wanted ----------------------------------------------------------------------------

    def want_more(self) -> None:
        self.wanted = min(self.wanted + 1, MAX_WANTED)

    def want_less(self) -> bool:
        """Return False where there is only one."""
        if self.wanted == 1:
            return False
        self.wanted -= 1
        return True

    # -- what happens ------------------------------------------------------------------------------

    def started(self, member: M) -> int:
        """A worker was started; return how many attempts in a row had failed before."""
        self.members.append(member)
        return self.restarts.started()

    def died(self, member: M, now: float) -> bool:
        """The process of a worker has ended. Return whether a reload has failed by that."""
        self.members.remove(member)
        if member.ending:
            return False
        age = now - member.started_at
        quick = self.restarts.died(served=member.ready, age=age, now=now)
        return quick and self.reload.ends_with(member, self.living)

    # -- what is to be done ------------------------------------------------------------------------

    def step(self, now: float) -> Start | Retire[M] | None:
        """The next step. None: nothing, until something happens or `start_at` comes."""
        living, old = self.living, self.old
        # Also while some of them are being replaced, which may fail.
        if len(self.serving) >= self.wanted:
            self.complete_once = True
        starting = any(not member.ready for member in living)
        # While workers are replaced, one by one, there is one more: it serves before another ends.
        surplus = len(living) - self.wanted - bool(old and starting)
        if surplus > 0:
            return self._retire()
        short = len(living) < self.wanted or (old and not starting)
        if short and self.restarts.may_start(now):
            return Start()
        if not short:
            self.restarts.forget_delay()
        return None

    def _retire(self) -> Retire[M]:
        """Retire the worker that will be missed least: the oldest of those to be replaced, then the
        newest of those that do not serve yet, then the newest; never the only one that serves."""
        serving, old = self.serving, self.old
        order = old + [each for each in reversed(self.living) if not each.ready] + serving[::-1]
        member = next(each for each in order if serving != [each])
        new = [each for each in serving if each.generation == self.reload.generation]
        return Retire(member, new[-1] if new and member in old else None)
