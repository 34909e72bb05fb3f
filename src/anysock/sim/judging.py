"""What is wrong with a history, and which of it is told."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from anysock.engines.sim.network import Network
from anysock.errors import UsageError
from anysock.sim import runaway
from anysock.sim.checks import Broken, Checks
from anysock.sim.failure import Deadlock, Failure
from anysock.sim.guards import RealWorld, Watch
from anysock.sim.waiting import in_words

#: Kinds of findings.
RUNAWAY = "runaway"
DEADLOCK = "deadlock"


class _Raised(NamedTuple):
    """What somebody has raised who is not the scenario."""

    at: float
    #: How much of the trace there was.
    place: int
    host: str
    what: str
    error: Exception
    stands: Callable[[], bool]


class Judge:
    """Looks at a history after those of its steps that say something, and at its end."""

    def __init__(
        self, network: Network, watch: Watch, waiting: Callable[[], Iterable[tuple[str, str, Any]]]
    ) -> None:
        self.checks = Checks()
        #: Whether it is judged already: what comes after that does not count.
        self.over = False
        self._runaway = ""
        self._network = network
        self._watch = watch
        watch.on_refusal = self._attend
        self._waiting = waiting
        self._raised: list[_Raised] = []

    @property
    def steps(self) -> int:
        """How many there were."""
        return self._network.steps

    def begin(self, until: float) -> None:
        """From now on, look; the scenario is to have ended at the time `until`."""
        self._network.until = until
        self._network.on_step = self.look

    def _attend(self) -> None:
        """From now on, each step may say something."""
        self._network.attention = True

    def always(self, name: str, holds: Callable[[], object]) -> None:
        """From now on, `holds()` must be true."""
        self.checks.always(name, holds)
        self._attend()

    def eventually(
        self, name: str, holds: Callable[[], object], by: float | None, promise: str
    ) -> None:
        """`holds()` must be true at one moment up to `by`; None: up to the end."""
        self.checks.eventually(name, holds, by, promise)
        self._attend()

    def look(self) -> None:
        """After a step. Raises what ends the history."""
        if self.over:
            return
        if self._runaway:
            self.stop(self._failure(self._runaway, RUNAWAY))
        if self._watch.refused is not None:
            self.stop(self._watch.refused)
        now, until = self._network.now, self._network.until
        broken = self.checks.look(now)
        if broken is not None:
            self.stop(self._broken(broken))
        if now > until:
            self.stop(self._deadlock(f"the scenario has not ended within {until:g} s"))

    def stuck(self) -> NoReturn:
        """Nothing can ever happen again."""
        self.stop(self._deadlock("nothing can ever happen again"))

    def runs_away(self, where: str) -> None:
        """A step takes too long; it is about to be ended, at the line `where`."""
        self._attend()
        self._runaway = (
            f"a step has not ended within {runaway.SECONDS:g} seconds of computing: it was at "
            f"{where}"
        )

    def stop(self, error: Exception) -> NoReturn:
        """End the history, from within the network."""
        self.over = True
        raise error

    def add(self, host: str, what: str, error: Exception, stands: Callable[[], bool]) -> None:
        """Something on a host has raised `error`. The history has failed, if that still `stands()`
        when it ends."""
        if not self.over:
            place = len(self._network.trace)
            self._raised.append(_Raised(self._network.now, place, host, what, error, stands))

    def end(self, error: Exception | None) -> None:
        """The history is over, and the scenario has raised `error`. Raises the first that was
        wrong."""
        __tracebackhide__ = True
        if error is not None and _is_no_failure(error):
            self.over = True
            raise error
        if self._watch.refused is not None:
            self.stop(self._watch.refused)
        if self._runaway:
            self.stop(
                error if isinstance(error, Failure) else self._failure(self._runaway, RUNAWAY)
            )
        last: Failure | None = None
        if isinstance(error, Failure):
            last = error
        elif error is not None:
            last = self.raised("scenario", error)
        elif (broken := self.checks.at_the_end(self._network.now)) is not None:
            last = self._broken(broken)
        self.over = True
        found = [each for each in self._raised if each.stands()]
        first = self.raised(found[0].what, found[0].error, found[0]) if found else last
        if first is None:
            return
        if first is not last and last is not None:
            first.add_note(f"later: {last.what}")
        # Where it was noticed, deep in the network, says nothing.
        raise first.with_traceback(None)

    # -- failures --------------------------------------------------------------------------------

    def raised(self, what: str, error: Exception, where: _Raised | None = None) -> Failure:
        """The failure that `what` has raised `error`."""
        text, name = str(error).partition("\n")[0], type(error).__name__
        return self._failure(
            f"{what} raised {name}{': ' if text else ''}{text}",
            f"{what.split(maxsplit=1)[0]}: {name}",
            where=where,
            cause=error,
        )

    def _broken(self, broken: Broken) -> Failure:
        return self._failure(broken.what, broken.kind, cause=broken.error)

    def _deadlock(self, what: str) -> Failure:
        text = f"{what}; these wait: {in_words(self._waiting())}"
        return self._failure(text, DEADLOCK, of=Deadlock)

    def _failure(
        self,
        what: str,
        kind: str,
        *,
        where: _Raised | None = None,
        cause: Exception | None = None,
        of: type[Failure] = Failure,
    ) -> Failure:
        network = self._network
        place = len(network.trace) if where is None else where.place
        failure = of(
            what,
            kind=kind,
            seed=network.chance.seed,
            at=network.now if where is None else where.at,
            host="" if where is None else where.host,
            occurrences={} if network.faults is None else network.faults.occurrences,
            trace=network.trace,
            place=place,
        )
        failure.__cause__ = cause
        return failure


def _is_no_failure(error: Exception) -> bool:
    """Whether `error` says nothing about the history: a test that is skipped, say, or an
    assumption of Hypothesis that does not hold."""
    if isinstance(error, RealWorld | UsageError | unittest.SkipTest):
        return True
    return type(error).__module__.partition(".")[0] == "hypothesis"
