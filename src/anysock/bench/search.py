"""The highest rate at which a server keeps a promise about its latency."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.clients.percentiles import samples_needed
from anysock.errors import UsageError
from anysock.options.units import format_duration, parse_duration

_BOUND = re.compile(r"\s*(?:p(?P<percent>\d+(?:\.\d+)?)|(?P<max>max))\s*<\s*(?P<limit>\S+)\s*")

# The result is at most this share below the highest rate that passes.
_PRECISION = 0.05

# A server that answers a smaller share of the messages does not keep up.
_KEPT_UP = 0.98

_MAX_STEPS = 16


@dataclass(frozen=True)
class Bound:
    """``p99<1ms``: `percent` of 100 messages are answered within `seconds`."""

    percent: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read ``p99<1ms`` or ``max<10ms``. Raises `UsageError`."""
        match = _BOUND.fullmatch(text)
        percent = 100.0 if match is None or match["max"] else float(match["percent"])
        if match is None or not 0 < percent <= 100:
            raise UsageError(f"expected a bound such as p99<1ms or max<10ms, not {text!r}")
        seconds = parse_duration(match["limit"])
        if not seconds:
            raise UsageError(f"bad bound {text!r}: nothing takes no time at all")
        return cls(percent, seconds)

    @property
    def name(self) -> str:
        return "max" if self.percent == 100 else f"p{self.percent:g}"

    @property
    def needs(self) -> int:
        """How many answers are needed to judge it. If all of a few were fast, that says nothing
        about the others: ``max`` needs as many as a p99."""
        return samples_needed(99.0 if self.percent == 100 else self.percent)

    def lowest_rate(self, seconds: float) -> float:
        """The lowest rate that can be judged after `seconds` of load."""
        return self.needs / _KEPT_UP / seconds

    def __str__(self) -> str:
        return f"{self.name}<{format_duration(self.seconds)}"


@dataclass(frozen=True)
class Step:
    """One rate that was tried."""

    rate: float
    outcome: Outcome
    #: Why it does not pass; None: it does.
    why_not: str | None
    #: Whether there were too few answers to judge.
    untold: bool = False

    @property
    def passed(self) -> bool:
        return self.why_not is None


def judge(outcome: Outcome, bound: Bound) -> Step:
    """Whether `outcome`, of an open loop, keeps `bound`."""
    asked = outcome.plan.rate
    assert asked is not None

    def no(why: str, **more: bool) -> Step:
        return Step(asked, outcome, why, **more)

    if outcome.errors or outcome.unanswered:
        return no("errors: " + ", ".join(outcome.errors or ["unanswered messages"]))
    if not outcome.messages:
        return no("nothing was answered")
    # One message may be on either side of the end.
    if outcome.messages + 1 < asked * _KEPT_UP * outcome.seconds:
        return no(f"only {outcome.rate:,.3g}/s came back")
    if len(outcome.echo) < bound.needs:
        few = f"{bound.name} takes {bound.needs:,} answers, not {len(outcome.echo):,}"
        return no(few, untold=True)
    if (took := outcome.echo.percentile(bound.percent)) >= bound.seconds:
        return no(f"{bound.name} is {took * 1e3:,.3g} ms")
    return Step(asked, outcome, None)


def find_rate(
    plan: Plan,
    bound: Bound,
    run: Callable[[Plan], Outcome],
    told: Callable[[Step], None] = lambda _: None,
) -> list[Step]:
    """Try rates until the highest that keeps `bound` is known to 5 percent; returns all tried.

    It begins at half of what a closed loop reaches, goes up or down by factors of two until one
    rate passes and one does not, and then halves the range between them; but never below
    `Bound.lowest_rate`, where there are too few answers to judge. ``run(plan)`` does one load;
    ``told(step)`` is called after each. Rates may be passed by accident on a noisy machine: the
    steps show how near to the bound each came.
    """
    closed = run(dataclasses.replace(plan, rate=None, messages=None))
    if closed.interrupted or not closed.messages:
        return []
    steps: list[Step] = []
    lowest = bound.lowest_rate(plan.duration)
    rate = max(closed.rate / 2, lowest)
    passed = failed = 0.0
    for _ in range(_MAX_STEPS):
        outcome = run(dataclasses.replace(plan, rate=rate))
        if outcome.interrupted:
            break
        steps.append(judge(outcome, bound))
        told(steps[-1])
        if steps[-1].passed:
            passed = rate
        else:
            failed = rate
        if not failed:
            rate *= 2
        elif not passed:
            if rate <= lowest:
                break
            rate = max(rate / 2, lowest)
        elif failed / passed <= 1 + _PRECISION:
            break
        else:
            rate = (passed * failed) ** 0.5
    return steps


@dataclass(frozen=True)
class Search:
    """The rates that were tried for a bound."""

    bound: Bound
    steps: list[Step]

    @property
    def best(self) -> Step | None:
        """The step with the highest rate that passed."""
        passed = [step for step in self.steps if step.passed]
        return max(passed, key=lambda step: step.rate, default=None)

    @property
    def ok(self) -> bool:
        """Whether a rate passed."""
        return self.best is not None

    @property
    def outcome(self) -> Outcome | None:
        """Of the best step; if none passed, of the last."""
        last = self.steps[-1] if self.steps else None
        shown = self.best or last
        return None if shown is None else shown.outcome

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bound": str(self.bound),
            "rate": self.best.rate if self.best else None,
            "steps": [
                {"rate": step.rate, "why_not": step.why_not, **step.outcome.to_dict()}
                for step in self.steps
            ],
        }
