"""A rolling reload: which workers are to be replaced, and whether it is still under way. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Generational(Protocol):
    """A worker, as far as a reload is concerned."""

    #: How many reloads had been asked for when it was started: it has the code of that moment.
    generation: int
    #: Whether it serves.
    ready: bool


M = TypeVar("M", bound=Generational)


class Reload:
    """Each reload begins a generation; workers of an earlier one are old, and to be replaced."""

    def __init__(self) -> None:
        #: Raised by each reload.
        self.generation = 0
        #: Whether its outcome is still to be told.
        self.under_way = False

    def old(self, workers: Sequence[M]) -> list[M]:
        """Those of `workers` that are to be replaced, in their order."""
        return [each for each in workers if each.generation < self.generation]

    def ask(self) -> None:
        """A reload was asked for, perhaps while another one is under way."""
        self.under_way = True

    def begin(self) -> None:
        """Replace all workers that are there now."""
        self.generation += 1

    def end(self) -> bool:
        """It is over; return whether its outcome is to be told, which it is once."""
        was, self.under_way = self.under_way, False
        return was

    def ends_with(self, dead: Generational, others: Sequence[Generational]) -> bool:
        """Worker `dead` has died too quickly. If it was to take the place of an old one, the reload
        has failed: the old ones among `others` stay. Return whether that is so."""
        if dead.ready or dead.generation < self.generation:
            return False
        old = self.old(others)
        for each in old:
            each.generation = self.generation
        return bool(old)
