"""Faults that come at times of their own, to a host or to a pair of hosts: a partition, a stall.

No timer is set for them, since a fault that nobody meets is none: whoever does something at a time
when there is trouble meets it, and only then does it begin, and count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from anysock.engines.sim.dice import Dice, hash_of
from anysock.engines.sim.fates import FaultKind
from anysock.engines.sim.faults import Faults

#: Later than all that happens.
NEVER: Final = float("inf")


@dataclass(slots=True)
class Trouble:
    """One that may be met from `begins` on, and until `ends`."""

    kind: FaultKind
    begins: float
    ends: float
    number: int
    #: What is chance of it besides.
    dice: Dice


class Troubles:
    """Those of one subject, the earliest first."""

    __slots__ = ("_coming", "_subject", "next")

    def __init__(
        self, faults: Faults | None, names: Iterable[str], subject: str, now: float
    ) -> None:
        self._subject = subject
        self._coming: list[Trouble] = []
        for name in names:
            if faults is not None and (kind := faults.kinds.get(name)) is not None:
                self._coming += _drawn(kind, subject, now)
        self._coming.sort(key=lambda trouble: trouble.begins)
        #: From when on there may be trouble; until then, nobody need ask `meet`.
        self.next = self._coming[0].begins if self._coming else NEVER

    def meet(self, now: float) -> list[Trouble]:
        """Somebody is there at this time: the troubles that he meets, which happen by that."""
        met = []
        while self._coming and self._coming[0].begins <= now:
            trouble = self._coming.pop(0)
            if trouble.ends > now and trouble.kind.happens(self._subject, trouble.number):
                met.append(trouble)
        self.next = self._coming[0].begins if self._coming else NEVER
        return met

    def clear(self) -> None:
        """There is none any more."""
        self._coming.clear()
        self.next = NEVER


def _drawn(kind: FaultKind, subject: str, now: float) -> Iterable[Trouble]:
    parameters = kind.parameters
    dice = Dice(kind.seed ^ hash_of(subject))
    begins = now
    for number in range(int(parameters["times"])):
        begins += dice.exponential(parameters["every"])
        lasts = dice.uniform(0.0, parameters["lasts"]) if "lasts" in parameters else NEVER
        yield Trouble(kind, begins, begins + lasts, number, Dice(int(dice.random() * 2**53)))
        if lasts != NEVER:
            begins += lasts
