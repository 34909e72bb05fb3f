"""In which order tasks and descriptors take their turns that are ready at the same time.

What every engine promises is kept: an iteration runs each task that is ready once, so that
``sleep(0)`` lets each of the others run. Which of them is the first nobody promises: trio tosses a
coin, and threads run as they like. And what a descriptor says may come late, as all that comes by a
network: so an event may be left for a later iteration.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

from anysock.engines.sim.dice import Dice, hash_of
from anysock.engines.sim.fates import FaultKind

Events = list[tuple[int, int]]

# How often in a row events are left for later, at most.
PATIENCE: Final = 16

# In which part of the iterations some of them are, where any order will do: in one of eight, by
# what a logarithm becomes the distance to the next.
_LATER: Final = 1.0 / math.log1p(-0.125)


class Task(Protocol):
    """What is known here of a task."""

    @property
    def done(self) -> bool: ...


class Loop(Protocol):
    """What is known here of a `Kernel`, of which each host has its own."""

    readers: Mapping[int, Task]
    writers: Mapping[int, Task]


class Schedule:
    """An order of turns, for one loop. `kind` counts where it is not the order of arrival."""

    def __init__(self, kind: FaultKind, host: str) -> None:
        self.dice = Dice(kind.seed ^ hash_of(host))
        self._kind = kind
        self._host = host
        self._number = -1
        # For how many iterations something has been left for later.
        self._late = 0

    def order(self, tasks: deque[Any]) -> None:
        """Put tasks that are ready, more than one, in the order in which they run."""
        before = list(tasks)
        after = self.ordered(before)
        if after != before and self._happens():
            tasks.clear()
            tasks.extend(after)

    def choose(self, events: Events, loop: Loop) -> Events:
        """Those of the events that are told of now, in the order in which they are."""
        chosen = self.chosen(events, loop)
        if len(chosen) < len(events):
            self._late += 1
            if self._late > PATIENCE:
                chosen, self._late = events, 0
        else:
            self._late = 0
        return chosen if chosen != events and self._happens() else events

    def ordered(self, tasks: list[Any]) -> list[Any]:
        """`tasks`, in the order in which they run."""
        raise NotImplementedError

    def chosen(self, events: Events, loop: Loop) -> Events:
        """Those of the events that are told of now, and in which order."""
        raise NotImplementedError

    def _happens(self) -> bool:
        self._number += 1
        return self._kind.happens(self._host, self._number)


class AnyOrder(Schedule):
    """Every order is as likely as any other."""

    def __init__(self, kind: FaultKind, host: str) -> None:
        super().__init__(kind, host)
        self._until_late = self._gap()

    def _gap(self) -> int:
        return 1 + int(math.log(1.0 - self.dice.random()) * _LATER)

    def ordered(self, tasks: list[Any]) -> list[Any]:
        tasks = tasks.copy()
        self.dice.shuffle(tasks)
        return tasks

    def chosen(self, events: Events, loop: Loop) -> Events:
        several = len(events)
        if several > 1:
            events = events.copy()
            self.dice.shuffle(events)
        self._until_late -= 1
        if self._until_late:
            return events
        self._until_late = self._gap()
        return events[: self.dice.below(several)]


class Priorities(Schedule):
    """Probabilistic concurrency testing: each task has a priority, and the one with the highest of
    those that are ready runs first. So many times, at steps that are drawn, the task that would be
    first becomes the last of all.

    So a bug that needs a certain order of a few steps is found with a probability that is known
    (Burckhardt, Kothari, Musuvathi, Nagarakatte: "A Randomized Scheduler with Probabilistic
    Guarantees of Finding Bugs", ASPLOS 2010); if less than there, for here no task waits for ever.
    """

    def __init__(self, kind: FaultKind, host: str) -> None:
        super().__init__(kind, host)
        parameters = kind.parameters
        steps = max(int(parameters["steps"]), 1)
        # The latest first, so that the next is the last of the list.
        self._changes = sorted(
            (self.dice.below(steps) for _ in range(int(parameters["changes"]))), reverse=True
        )
        self._steps = 0
        self._lowest = 0.0
        self._priorities: dict[Task, float] = {}

    def ordered(self, tasks: list[Any]) -> list[Any]:
        tasks = sorted(tasks, key=self._rank)
        self._step(len(tasks), tasks[0])
        return sorted(tasks, key=self._rank)

    def chosen(self, events: Events, loop: Loop) -> Events:
        waiting: list[tuple[Task, tuple[int, int]]] = []
        for event in events:
            task = loop.readers.get(event[0]) or loop.writers.get(event[0])
            if task is not None:
                waiting.append((task, event))
        if len(waiting) < 2:
            return events
        self._step(1, min(waiting, key=self._rank_of_first)[0])
        return [min(waiting, key=self._rank_of_first)[1]]

    def _rank_of_first(self, waiting: tuple[Task, tuple[int, int]]) -> float:
        return self._rank(waiting[0])

    def _rank(self, task: Task) -> float:
        rank = self._priorities.get(task)
        if rank is None:
            if len(self._priorities) > 1000:
                self._priorities = {
                    each: rank for each, rank in self._priorities.items() if not each.done
                }
            rank = self._priorities[task] = -self.dice.random()
        return rank

    def _step(self, steps: int, first: Task) -> None:
        """So many steps of tasks are made; `first` would be the first."""
        self._steps += steps
        if self._changes and self._changes[-1] < self._steps:
            self._changes.pop()
            self._lowest += 1.0
            self._priorities[first] = self._lowest


def schedule(kernel: Any, kind: FaultKind, host: str) -> None:
    """Let a `Kernel` that has not run yet take turns by a schedule, as `kind` says which."""
    order = (Priorities if kind.parameters["changes"] else AnyOrder)(kind, host)
    run_ready_tasks, process_events = kernel.run_ready_tasks, kernel.process_events

    def run() -> None:
        if len(kernel._ready) > 1:
            order.order(kernel._ready)
        run_ready_tasks()

    def process(events: Events) -> None:
        process_events(order.choose(events, kernel) if events else events)

    kernel.run_ready_tasks, kernel.process_events = run, process
