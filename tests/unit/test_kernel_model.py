"""The kernel against a model: whatever is spawned, awaited, cancelled, set, put, in any order.

After each step the kernel runs until nothing is ready. Then every task must be exactly where the
model says: no wake-up lost, none doubled, none out of order.
"""

from __future__ import annotations

import collections
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import anysock
from anysock.engines.running import engine_is
from anysock.engines.selector import SelectorEngine
from anysock.errors import Cancelled
from anysock.loop.kernel import Kernel

EVENTS = 3

# What a task may do: sleep, wait for an event, get from the queue; each perhaps within a timeout.
OPERATIONS = st.tuples(
    st.one_of(
        st.tuples(st.just("sleep"), st.integers(0, 6)),
        st.tuples(st.just("event"), st.integers(0, EVENTS - 1)),
        st.tuples(st.just("get"), st.just(0)),
    ),
    st.none() | st.integers(1, 6),
)


class StillPoller:
    """No descriptor is ever ready, and time passes only when the test says so."""

    def register(self, fd, mask): ...
    def modify(self, fd, mask): ...
    def unregister(self, fd): ...
    def close(self): ...

    def poll(self, timeout=None, maxevents=-1):
        return []


class Worker:
    """A task that works off a script, and what the model thinks of it."""

    def __init__(self, script) -> None:
        self.script = script
        # What the task has told.
        self.told: list[Any] = []
        # What it should have told.
        self.expected: list[Any] = []
        self.at = 0
        self.due: float | None = None  # of the operation's own sleep
        self.deadline: float | None = None  # of the timeout around it
        self.over = False


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = 0.0
        self.engine = SelectorEngine()
        self.engine._kernel.close()
        self.kernel = Kernel(StillPoller(), lambda: self.now)
        self.engine._kernel = self.kernel
        with engine_is(self.engine):
            self.events = [anysock.Event() for _ in range(EVENTS)]
            self.queue: anysock.Queue[int] = anysock.Queue(max_items=1000)
        self.set: set[int] = set()
        self.items: collections.deque[int] = collections.deque()
        self.getters: list[Worker] = []
        self.put_so_far = 0
        self.workers: list[Worker] = []
        self.tasks: list[Any] = []

    def teardown(self):
        if hasattr(self, "kernel"):
            for task in self.tasks:
                task.cancel()
            self.settle()
            assert not self.kernel.tasks
            assert self.kernel.timers.next_deadline() is None
            self.kernel.close()

    # -- the tasks ------------------------------------------------------------------------------

    async def work(self, worker):
        try:
            for number, ((what, argument), seconds) in enumerate(worker.script):
                result: object = None
                async with anysock.move_on_after(seconds) as scope:
                    if what == "sleep":
                        await anysock.sleep(argument)
                    elif what == "event":
                        await self.events[argument].wait()
                    else:
                        result = await self.queue.get()
                worker.told.append((number, "fired" if scope.fired else result))
        except Cancelled:
            worker.told.append("cancelled")
            await anysock.sleep(0)
            worker.told.append("cleaned up")
            raise

    def settle(self):
        with engine_is(self.engine):
            for _ in range(1000):
                self.kernel.iterate()
                if self.kernel.calculate_timeout() > 0:
                    return
        raise AssertionError("the kernel never comes to rest")

    # -- the model ------------------------------------------------------------------------------

    def enter(self, worker):
        """The worker begins its next operation; the model goes on until it must wait."""
        while worker.at < len(worker.script):
            (what, argument), seconds = worker.script[worker.at]
            worker.deadline = None if seconds is None else self.now + seconds
            worker.due = None
            if what == "sleep" and argument > 0:
                worker.due = self.now + argument
                return
            if what == "event" and argument not in self.set:
                return
            if what == "get":
                if not self.items:
                    self.getters.append(worker)
                    return
                self.finish(worker, self.items.popleft())
            else:
                self.finish(worker, None)
        worker.over = True

    def finish(self, worker, result):
        worker.expected.append((worker.at, result))
        worker.at += 1

    def what(self, worker):
        return worker.script[worker.at][0]

    # -- the steps ------------------------------------------------------------------------------

    @rule(script=st.lists(OPERATIONS, max_size=5))
    def spawn(self, script):
        worker = Worker(script)
        self.workers.append(worker)
        self.tasks.append(self.kernel.spawn(self.work(worker), f"worker {len(self.workers)}"))
        self.enter(worker)
        self.settle()

    @rule(number=st.integers(0, EVENTS - 1))
    def set_event(self, number):
        # In the kernel's own order, which decides who gets what from the queue next.
        line = list(self.events[number]._event._waiters)
        waiting = [
            worker
            for worker in self.workers
            if not worker.over and self.what(worker) == ("event", number)
        ]
        assert {self.task_of(worker) for worker in waiting} == set(line)
        self.events[number].set()
        self.set.add(number)
        for worker in sorted(waiting, key=lambda worker: line.index(self.task_of(worker))):
            self.finish(worker, None)
            self.enter(worker)
        self.settle()

    @rule()
    def put(self):
        self.put_so_far += 1
        self.queue.put_nowait(self.put_so_far)
        if self.getters:
            worker = self.getters.pop(0)
            self.finish(worker, self.put_so_far)
            self.enter(worker)
        else:
            self.items.append(self.put_so_far)
        self.settle()

    @rule(choice=st.integers(0, 100))
    def cancel(self, choice):
        if not self.workers:
            return
        index = choice % len(self.workers)
        self.tasks[index].cancel()
        worker = self.workers[index]
        if not worker.over:
            worker.over = True
            worker.expected += ["cancelled", "cleaned up"]
            if worker in self.getters:
                self.getters.remove(worker)
        self.settle()

    @rule()
    def a_second_passes(self):
        self.now += 1
        due: list[tuple[Worker, object]] = []
        for worker in self.workers:
            if not worker.over:
                own, limit = worker.due, worker.deadline
                # The timeout was set before the sleep within it, so it comes first in a tie.
                if limit is not None and limit <= self.now:
                    due.append((worker, "fired"))
                elif own is not None and own <= self.now:
                    due.append((worker, None))
        # Whose turn is at the same instant run in the order in which their timers were set; the
        # model need not know it, as long as nobody gets from the queue or waits for the next.
        for worker, result in due:
            if worker in self.getters:
                self.getters.remove(worker)
            self.finish(worker, result)
        together = [worker for worker, _ in due if not self.only_sleeps_next(worker)]
        if len(together) > 1:
            # More than one goes on to what the others can see: let the kernel say who was first.
            self.settle()
            self.follow(due)
            return
        for worker, _ in due:
            self.enter(worker)
        self.settle()

    def only_sleeps_next(self, worker):
        return all(what != "get" for (what, _), _ in worker.script[worker.at :])

    def follow(self, due):
        """Take over from the kernel who got which item, after checking that all were handed out
        in order and to somebody who asked for one."""
        got = []
        for worker, _ in due:
            while worker.at < len(worker.script):
                (what, argument), seconds = worker.script[worker.at]
                worker.deadline = None if seconds is None else self.now + seconds
                worker.due = None
                if what == "sleep" and argument > 0:
                    worker.due = self.now + argument
                    break
                if what == "event" and argument not in self.set:
                    break
                told = worker.told[len(worker.expected) : len(worker.expected) + 1]
                if what == "get":
                    if not told:
                        break
                    got.append(told[0][1])
                    self.finish(worker, told[0][1])
                else:
                    self.finish(worker, None)
            else:
                worker.over = True
        assert sorted(got) == [self.items.popleft() for _ in got]
        waiting = [worker for worker, _ in due if not worker.over and self.what(worker)[0] == "get"]
        assert not (waiting and self.items), "an item lies there, and somebody waits for it"
        # Their order in the queue's line is the kernel's: it is seen when the next item comes.
        if waiting:
            assert len(self.queue._getters) == len(self.getters) + len(waiting)
            self.getters += waiting
            self.getters.sort(key=self.place_in_line)

    def place_in_line(self, worker):
        return list(self.queue._getters).index(self.task_of(worker).wait)

    def task_of(self, worker):
        return self.tasks[self.workers.index(worker)]

    # -- what must be true ----------------------------------------------------------------------

    @invariant()
    def every_task_is_where_the_model_says(self):
        if not hasattr(self, "kernel"):
            return
        for worker, task in zip(self.workers, self.tasks, strict=True):
            assert worker.told == worker.expected
            assert task.done == worker.over
        assert len(self.queue) == len(self.items)


def test_the_kernel_does_what_the_model_says():
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
