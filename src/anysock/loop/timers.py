"""Timers: a heap of deadlines, with lazy deletion that stays bounded.

Most timers are timeouts, and most timeouts are cancelled. Taking one out of the middle of a
heap is linear, so a cancelled timer stays where it is, emptied, until it reaches the top; when
more than half of the heap is empty, the heap is built anew. So cancelling costs O(1) on
average, and a million timers set and cancelled never hold more than twice the living ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

# Below this many cancelled timers a rebuild is not worth its while.
FEW = 64


class Timer:
    """One deadline. `action` is None once it has fired or was cancelled."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self.action: Callable[[], object] | None = action


class Timers:
    """The deadlines of one loop; times are seconds on the loop's own clock."""

    def __init__(self) -> None:
        # The number keeps timers of one instant in the order in which they were set,
        # and spares the heap from comparing Timer objects.
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """How many entries the heap holds, the cancelled ones included."""
        return len(self._heap)

    def add(self, when: float, action: Callable[[], object]) -> Timer:
        """Call `action()` in the first iteration that begins at or after `when`."""
        timer = Timer(when, action)
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, timer))
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget `timer`. Nothing happens when it has fired already."""
        if timer.action is None:
            return
        timer.action = None
        self._cancelled += 1
        if self._cancelled > FEW and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def living(self) -> list[Timer]:
        """Those that are set, the earliest first."""
        return [timer for _, _, timer in sorted(self._heap) if timer.action is not None]

    def next_deadline(self) -> float | None:
        """When the earliest living timer is due, or None when there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def run_due(self, now: float) -> None:
        """Call the actions that are due at `now`, the earliest first.

        One by one: an action may cancel a timer that is due in the same instant, as a deadline does
        with the sleep that it ends, and then that must not be called any more.
        """
        heap = self._heap
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            action = timer.action
            if action is None:
                self._cancelled -= 1
            else:
                timer.action = None
                action()
                heap = self._heap  # a cancellation may have built it anew
