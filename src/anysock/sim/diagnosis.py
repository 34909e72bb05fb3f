"""What is told of a history that fails: the smallest plan that fails in the same way, its story,
and the file by which it can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anysock.engines.sim.faults import FaultPlan
from anysock.sim.explore import Explorer
from anysock.sim.finding import Finding
from anysock.sim.many import many
from anysock.sim.plan import Plan
from anysock.sim.replay import Replay, versions
from anysock.sim.scenario import Outcome
from anysock.sim.shrink import Shrunk, shrink
from anysock.sim.story import story

#: Where replay files go, unless something else is said.
FOLDER = Path(".sim")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A history that fails."""

    seed: int
    #: The plan that was drawn.
    drawn: Plan
    #: The smaller plan, and how often another was tried.
    plan: Plan
    tries: int
    #: What came of the smaller plan. None: when the same plan was run again, it did not fail.
    outcome: Outcome | None
    #: What was found first.
    finding: Finding
    handler: str
    check: str

    @property
    def story(self) -> list[str]:
        """At most twenty lines."""
        if self.outcome is None:
            return []
        return story(self.outcome.network.trace, self.outcome.finding)

    @property
    def file(self) -> Path:
        """Where its replay file goes."""
        name = "".join(each if each.isalnum() or each in "._-" else "-" for each in self.handler)
        return FOLDER / f"{name}-{self.seed}.json"

    def replay(self) -> Replay:
        outcome = self.outcome
        assert outcome is not None
        assert outcome.finding is not None
        return Replay(
            self.handler, self.check, self.plan, outcome.finding, outcome.trace_hash, versions()
        )


def diagnose(explorer: Explorer, seed: int, finding: Finding, *, shrinks: bool = True) -> Diagnosis:
    """Look into the history of `seed`, which has failed with `finding`."""
    asked = explorer.asked
    drawn = asked.plan(seed)
    again = explorer.run(drawn)
    if again.finding is None or again.finding.kind != finding.kind:
        return Diagnosis(seed, drawn, drawn, 0, None, finding, asked.handler, asked.check)
    best = Shrunk(drawn, again.finding)
    if shrinks:
        with many():
            best = shrink(
                drawn,
                again.finding,
                lambda plan: explorer.run(plan).finding,
                kept=asked.options,
            )
        again = explorer.run(best.plan)
    if again.finding is None:
        return Diagnosis(seed, drawn, drawn, best.tries, None, finding, asked.handler, asked.check)
    return Diagnosis(seed, drawn, best.plan, best.tries, again, finding, asked.handler, asked.check)


def in_words(drawn: Plan, plan: Plan) -> str:
    """What is left of a plan that was drawn: ``20 clients -> 1; faults: partial; no options``."""
    before, after = len(drawn.clients), len(plan.clients)
    clients = f"{before} client{'' if before == 1 else 's'}"
    if after != before:
        clients += f" -> {after}"
    faults = f"faults: {FaultPlan(plan.faults)}" if plan.faults else "no faults"
    options = (
        "options: " + ", ".join(f"{name}={value}" for name, value in plan.options.items())
        if plan.options
        else "no options"
    )
    parts = [clients, faults, options]
    if plan.drain_at is not None:
        parts.append(f"drain at {plan.drain_at:g} s")
    return "; ".join(parts)
