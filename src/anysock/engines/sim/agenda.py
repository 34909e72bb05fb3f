"""What is to happen in a simulation, and when.

It does what `loop.timers` does, whose entries are objects: one is made for each segment, and this
is a quarter of what a segment costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final, TypeAlias

#: One entry: when, its number, and what to call; None once it was called, or is not wanted.
Due: TypeAlias = list[Any]

# Below this many entries that are not wanted any more, it is not worth its while to be rid of them.
_FEW: Final = 64


class Agenda:
    """What is to be called, by the time. Of one instant, in the order in which it was put in."""

    def __init__(self) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        #: A heap; the first entry may be one that is not wanted any more.
        self.entries: list[Due] = []
        self._number = 0
        self._unwanted = 0

    def at(self, when: float, action: Callable[[], object]) -> Due:
        """Call `action()` at the time `when`."""
        self._number += 1
        due = [when, self._number, action]
        heapq.heappush(self.entries, due)
        return due

    def after(self, seconds: float, action: Callable[[], object]) -> Due:
        """Call `action()` in so many seconds."""
        return self.at(self.now + seconds, action)

    def cancel(self, due: Due) -> None:
        """Forget it. Nothing happens when it was called already."""
        if due[2] is None:
            return
        due[2] = None
        self._unwanted += 1
        if self._unwanted > _FEW and self._unwanted * 2 > len(self.entries):
            # In place: `run_due` may be at it.
            self.entries[:] = [each for each in self.entries if each[2] is not None]
            heapq.heapify(self.entries)
            self._unwanted = 0

    def next_due(self) -> float | None:
        """When the next is due; None: there is none."""
        entries = self.entries
        while entries and entries[0][2] is None:
            heapq.heappop(entries)
            self._unwanted -= 1
        return entries[0][0] if entries else None

    def run_due(self) -> None:
        """Call what is due now."""
        entries, now = self.entries, self.now
        while entries and entries[0][0] <= now:
            due = heapq.heappop(entries)
            action, due[2] = due[2], None
            if action is None:
                self._unwanted -= 1
            else:
                action()
