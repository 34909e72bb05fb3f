"""Many histories, one after the other: what is counted of them, and which of them fail."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from anysock.engines.sim.faults import FaultPlan
from anysock.options.serve import ServeOptions
from anysock.sim import interrupts
from anysock.sim.cases import Case, case_of
from anysock.sim.finding import Finding
from anysock.sim.many import many
from anysock.sim.plan import Parameters, Plan
from anysock.sim.scenario import Outcome, run_history


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be explored, in plain values, so that another process can be told."""

    handler: str = "echo"
    check: str = "echo"
    clients: int = 20
    #: Messages of a client, at most, and bytes of one.
    messages: int = 10
    size: int = 1000
    faults: Mapping[str, Parameters] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    swarm: bool = True
    tls: bool = False
    #: The first seed, and how many there are.
    seed: int = 0
    histories: int = 1000
    #: Whether to go on after a history that fails.
    keep_going: bool = False
    #: What code of a history may touch: see `anysock.sim.guards`.
    real_world: tuple[str, ...] = ("refuse",)

    def plan(self, seed: int) -> Plan:
        return Plan.draw(
            seed,
            clients=self.clients,
            messages=self.messages,
            size=self.size,
            faults=self.faults,
            options=self.options,
            swarm=self.swarm,
            tls=self.tls,
        )

    def check_all(self) -> Self:
        """Raises `UsageError` for what makes no sense."""
        FaultPlan(self.faults)
        self.case()
        return self

    def case(self) -> Case:
        """Raises `UsageError` when there is none."""
        return case_of(self.handler, self.check, ServeOptions(**self.options))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**{**data, "real_world": tuple(data["real_world"])})


@dataclass(slots=True)
class Tally:
    """What is counted of histories."""

    histories: int = 0
    #: Virtual time, in seconds.
    seconds: float = 0.0
    #: How often each kind of fault has struck, and each place of `sim.sometimes`.
    fired: Counter[str] = field(default_factory=Counter)
    #: How the connections of the server have ended.
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.histories += 1
        self.seconds += outcome.seconds
        self.fired += outcome.fired
        self.reasons += outcome.reasons

    def merge(self, other: Tally) -> None:
        self.histories += other.histories
        self.seconds += other.seconds
        self.fired += other.fired
        self.reasons += other.reasons

    def to_dict(self) -> dict[str, Any]:
        return {
            "histories": self.histories,
            "seconds": self.seconds,
            "fired": dict(self.fired),
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        counted = {name: Counter(data[name]) for name in ("fired", "reasons")}
        return cls(**{**data, **counted})


@dataclass(slots=True)
class Block:
    """Histories of seeds that follow each other; it ends with the first that fails, unless they go
    on."""

    tally: Tally = field(default_factory=Tally)
    #: The seeds that fail, and how.
    failures: list[tuple[int, Finding]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        failures = [[seed, finding.to_dict()] for seed, finding in self.failures]
        return {"tally": self.tally.to_dict(), "failures": failures}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        failures = [
            (seed, Finding.from_dict(finding, "finding")) for seed, finding in data["failures"]
        ]
        return cls(Tally.from_dict(data["tally"]), failures)


class Explorer:
    """Runs histories in this process."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self._case = asked.case()

    def run(self, plan: Plan) -> Outcome:
        """The history of `plan`. A Ctrl-C comes after it."""
        with interrupts.held_back():
            return run_history(self._case, plan, real_world=_one(self.asked.real_world))

    def block(self, seeds: range) -> Block:
        """The histories of these seeds, up to the first that fails if it is not to go on."""
        block = Block()
        with many():
            for seed in seeds:
                if self._fails(seed, block) and not self.asked.keep_going:
                    break
        return block

    def _fails(self, seed: int, block: Block) -> bool:
        """Add the history of that seed, of which nothing else is kept."""
        outcome = self.run(self.asked.plan(seed))
        block.tally.add(outcome)
        if outcome.finding is None:
            return False
        block.failures.append((seed, outcome.finding))
        return True


def _one(several: tuple[str, ...]) -> Any:
    return several[0] if len(several) == 1 and several[0] in ("refuse", "allow") else several
