"""What a claim is, what an experiment finds, and how the two make a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Verdict(Enum):
    """What came of a claim. What could not be measured is never confirmed."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_MEASURED = "not measured"


class NotMeasured(Exception):
    """Raised by an experiment that can't be made here, with the reason."""


@dataclass(frozen=True)
class Finding:
    """One figure of an experiment, of one engine or one case, and whether it bears the claim "
    "out."""

    #: The engine, or the case.
    subject: str
    #: The figure, as a reader wants it, with its unit.
    figure: str
    verdict: Verdict
    #: The figure as a number, in the unit that `figure` names; None where it is no number.
    value: float | None = None

    @classmethod
    def judge(cls, subject: str, figure: str, holds: bool, value: float | None = None) -> Finding:
        """A finding that bears the claim out, or does not."""
        return cls(subject, figure, Verdict.CONFIRMED if holds else Verdict.REFUTED, value)


@dataclass(frozen=True)
class Claim:
    """A sentence that people say, and the experiment that tests it."""

    name: str
    says: str
    #: How it is measured.
    how: str
    #: What figure confirms it: the threshold that the experiment judges by.
    threshold: str
    #: Where to read on.
    read_on: str
    experiment: Callable[[], Iterable[Finding]]

    def run(self) -> Result:
        """Make the experiment."""
        try:
            findings = list(self.experiment())
        except NotMeasured as error:
            findings = [Finding("–", str(error), Verdict.NOT_MEASURED)]
        return Result(self, findings)


@dataclass(frozen=True)
class Result:
    """What came out of a claim's experiment."""

    claim: Claim
    findings: list[Finding]

    @property
    def verdict(self) -> Verdict:
        """Refuted by one finding; confirmed when all that was measured confirms it."""
        verdicts = {finding.verdict for finding in self.findings}
        for verdict in (Verdict.REFUTED, Verdict.CONFIRMED):
            if verdict in verdicts:
                return verdict
        return Verdict.NOT_MEASURED

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        claim = self.claim
        return {
            "name": claim.name,
            "says": claim.says,
            "how": claim.how,
            "threshold": claim.threshold,
            "read_on": claim.read_on,
            "verdict": self.verdict.value,
            "findings": [
                asdict(found) | {"verdict": found.verdict.value} for found in self.findings
            ],
        }


class Claims(dict[str, Claim]):
    """Claims by name, in the order in which they are told."""

    def claim(
        self, name: str, *, says: str, how: str, threshold: str, read_on: str
    ) -> Callable[[Callable[[], Iterable[Finding]]], Callable[[], Iterable[Finding]]]:
        """Decorates the experiment of a claim, and puts the claim in."""

        def put_in(
            experiment: Callable[[], Iterable[Finding]],
        ) -> Callable[[], Iterable[Finding]]:
            self[name] = Claim(name, says, how, threshold, read_on, experiment)
            return experiment

        return put_in
