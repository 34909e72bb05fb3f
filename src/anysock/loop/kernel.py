"""The kernel of the event loop: it runs tasks that are ready, and sleeps until others are.

Three principles:

1. An iteration does four things: calculate how long the poller may sleep, let it sleep, process the
   events that it brings (timers among them), and run the tasks that are ready.
2. The kernel knows tasks, waits, timers and descriptors, and nothing of sockets or bytes. A
   coroutine yields a `Wait`, the kernel calls its `enter`, and that is all that they say to
   each other.
3. A task whose descriptor is ready is resumed straight from the poller's list, with no round
   trip through the ready queue; and when it pauses on the very wait that it was resumed from,
   there is nothing to do: it is still entered, and the poller still knows. Each message of a busy
   server takes that path.

Nothing here reads a clock or sleeps but through `clock` and `poller`, which a test may replace.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anysock.errors import UsageError
from anysock.hints import CLEAN_UP_SECONDS, add_hint, not_ours, report_left
from anysock.loop.pollers import FAILED, READABLE, WRITABLE, Poller, default_poller
from anysock.loop.tasks import Task, Wait, suspend
from anysock.loop.timers import Timers
from anysock.loop.waits import Descriptor, ReadWait
from anysock.machine import compiled

T = TypeVar("T")

# epoll_wait(2) takes milliseconds in a C int, and other pollers have limits of their own.
# Waking once a day for nothing costs nothing, and lets a task sleep as long as it likes.
LONGEST_SLEEP = 86_400.0

# How many descriptors one call of the poller may report. The rest are reported in the next
# iteration: the operating system keeps its ready list in order, so none is passed over.
MAX_EVENTS = 512

_READ = READABLE | FAILED
_WRITE = WRITABLE | FAILED
_log = logging.getLogger("anysock.loop")


class Kernel:
    """One event loop, for one thread, and for one `run`.

    `poller` and `clock` (seconds, monotonic) default to the machine's own.
    """

    # What each step and each turn reads or writes has a place of its own, where compiled code finds
    # it; the rest is in the dict.
    __slots__ = ("__dict__", "__weakref__", "asleep", "current", "readers", "watchdog_wakeup")

    def __init__(
        self, poller: Poller | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.poller = poller or default_poller()
        self.clock = clock
        #: Whether that is the machine's own.
        self.monotonic = clock is time.monotonic
        #: The module that has a compiled turn for the poller: the poller's own, or that of
        #: `machine.compiled`. None: there is none.
        self.compiled: Any = getattr(poller, "compiled", None)
        self._sleeps_on: Any = getattr(poller, "sleeps_on", None)
        if compiled.fast is not None and type(self.poller) is getattr(select, "epoll", None):
            epoll: Any = self.poller
            self.compiled, self._sleeps_on = compiled.fast, epoll.fileno()
        #: What takes the place of `_poll`. None: there is no compiled one, or an observer stands
        #: before the poller.
        self.turn: Callable[[Kernel, Any, float], None] | None = None
        if self.compiled is not None:
            self.turn = self.compiled.turn
        self.timers = Timers()
        self.current: Task | None = None
        self.descriptors: dict[int, Descriptor] = {}
        # The tasks that wait to read, and to write, by descriptor number. Kept apart from
        # `descriptors`, so that an event finds its task in one step.
        self.readers: dict[int, Task] = {}
        self.writers: dict[int, Task] = {}
        #: How many iterations the loop has begun. Budgets that are for one of them count by it.
        self.iterations = 0
        self._ready: collections.deque[Task] = collections.deque()
        # Every living task. A task that nothing else refers to must not be collected while it
        # waits (the bug that asyncio's weak references cause: cpython 91887).
        # A dict keeps them in order, so that what a run does can be repeated.
        self.tasks: dict[Task, None] = {}
        self._spawned = 0
        self._main: Task | None = None
        self._outside: Task | None = None
        #: The thread that runs it; 0: none does yet.
        self.thread = 0
        #: The names of the tasks that did not end when `run` had cancelled them.
        self.left: list[str] = []
        #: Called with each new task; for observers.
        self.on_spawn: Callable[[Task], None] | None = None
        #: Whether the loop is in the poller, and what to set when it comes back; for the watchdog.
        self.asleep = False
        self.watchdog_wakeup: threading.Event | None = None
        # What other threads and signal handlers want done here, and the pipe that wakes the loop.
        self._from_outside: collections.deque[Callable[[], object]] = collections.deque()
        self._wakeup_reader, self.wakeup_pipe = socket.socketpair()
        self._wakeup_reader.setblocking(False)
        self.wakeup_pipe.setblocking(False)

    # -- what tasks and engines call ---------------------------------------------------------

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> Task:
        """Make a task of `coro`, in a copy of the caller's context; it first runs in the
        coming iteration."""
        self._spawned += 1
        task = Task(self, coro, name or f"{getattr(coro, '__qualname__', 'task')}-{self._spawned}")
        self.tasks[task] = None
        self._ready.append(task)
        if self.on_spawn is not None:
            self.on_spawn(task)
        return task

    def watch(self, fd: int) -> Descriptor:
        """Begin to watch a descriptor, for tasks that wait for it."""
        return Descriptor(self, fd)

    def wake(self, task: Task, outcome: Any = None) -> None:
        """Put a paused task among the ready ones. If `outcome` is an exception, its await raises
        that; anything else is what its await returns.

        Called by the wait that it is paused on, which has already forgotten it.
        """
        task.wait = None
        task.outcome = outcome
        self._ready.append(task)

    def call_from_outside(self, action: Callable[[], object]) -> None:
        """Call `action()` on the loop soon, in a copy of the caller's context. The one method for
        other threads and for signals."""
        self._from_outside.append(functools.partial(contextvars.copy_context().run, action))
        # A full pipe wakes the loop already; a closed one means that the loop has ended before a
        # thread that it had given up.
        with contextlib.suppress(OSError):
            self.wakeup_pipe.send(b"\0")

    # -- the loop ----------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` and all that it spawns, until `main` is done; return its result.

        Tasks that still live then are cancelled, and run until they have cleaned up. What
        `main` raised is raised here; KeyboardInterrupt, too, cancels everything first. Raises
        `UsageError` when this loop has run already.
        """
        if self._main is not None:
            raise UsageError("this engine has run already, and is made for one run: make another")
        self.thread = threading.get_ident()
        outside = self._outside = self.spawn(self._run_calls_from_outside(), "wakeups")
        task = self._main = self.spawn(main, "main")
        task.owned = True
        try:
            try:
                while not task.done:
                    self.iterate()
            finally:
                self._cancel_all(keep=outside)
            return task.result()  # type: ignore[no-any-return]
        finally:
            outside.coro.close()
            self.tasks.pop(outside, None)
            self.close()

    def alone(self, task: Task) -> bool:
        """Whether there is no other task than that, so that it holds up nobody."""
        # Asked by another thread: only the number of tasks can't change under its hands. One of
        # them waits for calls from outside, and has nothing to be held up but these.
        return len(self.tasks) <= 2 and task is not self._outside

    def interrupt(self) -> None:
        """Cancel `main`, and with it all the rest. For `call_from_outside`."""
        if self._main is not None:
            self._main.cancel()

    def close(self) -> None:
        """Give the loop's descriptors back. `run` ends with this."""
        self.poller.close()
        self._wakeup_reader.close()
        self.wakeup_pipe.close()

    def iterate(self) -> None:
        """One iteration of the loop."""
        self.iterations += 1
        timeout = 0.0 if self._ready else self.calculate_timeout()
        if self.turn is not None:
            self.turn(self, self._sleeps_on, timeout)
        else:
            self._poll(timeout)
        self.timers.run_due(self.clock())
        if self._ready:
            self.run_ready_tasks()

    def _poll(self, timeout: float) -> None:
        """Sleep at most that long, in seconds, and process the events that the poller brings."""
        self.asleep = True
        events = self.poller.poll(timeout, MAX_EVENTS)
        self.asleep = False
        if self.watchdog_wakeup is not None:
            self.watchdog_wakeup.set()
        self.process_events(events)

    def run_ready_tasks(self) -> None:
        """Run each task that is ready now, once. Those that become ready meanwhile run in
        the next iteration."""
        ready = self._ready
        for _ in range(len(ready)):
            self._run_ready(ready.popleft())
        self.current = None

    def _run_ready(self, task: Task) -> None:
        """Run `task`, which is ready, until it pauses or ends."""
        self.current = task
        try:
            outcome = task.outcome
            if outcome is None:
                wait = task.context.run(task.coro.send, None)
            else:
                task.outcome = None
                coro = task.coro
                resume = coro.throw if isinstance(outcome, BaseException) else coro.send
                wait = task.context.run(resume, outcome)
        except BaseException as ended:  # noqa: BLE001
            self._end(task, ended)
        else:
            self._pause(task, wait)

    def calculate_timeout(self) -> float:
        """How long the poller may sleep, in seconds: until the next timer, or not at all."""
        if self._ready:
            return 0.0
        deadline = self.timers.next_deadline()
        if deadline is None:
            return LONGEST_SLEEP
        seconds = deadline - self.clock()
        if seconds <= 0.0:
            return 0.0
        return min(LONGEST_SLEEP, seconds)

    def process_events(self, events: list[tuple[int, int]]) -> None:
        """Resume the tasks whose descriptors are ready."""
        readers = self.readers
        for fd, mask in events:
            if mask == READABLE and fd in readers:
                # `_resume`, written out: each message of a busy server passes here.
                self.current = task = readers[fd]
                try:
                    wait = task.context.run(task.coro.send, None)
                except BaseException as ended:  # noqa: BLE001
                    self._end(task, ended)
                else:
                    if wait is not task.wait:
                        self._pause(task, wait)
            else:
                self._process_rare_event(fd, mask)
        self.current = None

    # -- the slow paths ----------------------------------------------------------------------

    def _process_rare_event(self, fd: int, mask: int) -> None:
        """An event that is not just the one that a reader waited for."""
        descriptor = self.descriptors.get(fd)
        if descriptor is None:
            return  # closed by a task that ran earlier in this very iteration
        unwanted = False
        for wanted, waiting in ((_READ, self.readers), (_WRITE, self.writers)):
            if mask & wanted:
                task = waiting.get(fd)
                if task is None:
                    unwanted = True
                else:
                    self._resume(task)
        if unwanted and descriptor.interest:
            # No task waited for what was reported. Unless that ends here, a level-triggered poller
            # reports it for ever; and errors it reports for any interest at all, so that where no
            # task waits the interest must be 0. Which tasks wait is known only now: one that was
            # resumed above may have come back.
            interest = READABLE if fd in self.readers else 0
            if fd in self.writers:
                interest |= WRITABLE
            if interest != descriptor.interest:
                descriptor.set_interest(interest)

    def _resume(self, task: Task) -> None:
        """Run `task`, whose descriptor is ready, until it pauses again or ends."""
        self.current = task
        try:
            wait = task.context.run(task.coro.send, None)
        except BaseException as ended:  # noqa: BLE001
            self._end(task, ended)
        else:
            if wait is not task.wait:
                self._pause(task, wait)

    def _pause(self, task: Task, wait: Wait) -> None:
        """`task` has yielded `wait`, which is not the wait that it was on before."""
        while True:
            if task.wait is not None:
                task.wait.leave(task)
                task.wait = None
            try:
                if task.cancellations:
                    cancelled, *later = task.cancellations
                    task.cancellations = tuple(later)
                    raise cancelled
                if not isinstance(wait, Wait):
                    raise TypeError(not_ours(wait))
                task.wait = wait
                wait.enter(task)
                return
            except BaseException as refused:  # noqa: BLE001
                task.wait = None
                try:
                    wait = task.context.run(task.coro.throw, refused)
                except BaseException as ended:  # noqa: BLE001
                    self._end(task, ended)
                    return

    def _end(self, task: Task, ended: BaseException) -> None:
        """The coroutine of `task` has returned or raised: `ended` says which."""
        if task.wait is not None:
            task.wait.leave(task)
            task.wait = None
        self.tasks.pop(task, None)
        if isinstance(ended, StopIteration):
            task.finish(ended.value, None)
        else:
            add_hint(ended)
            task.finish(None, ended)
            if isinstance(ended, (KeyboardInterrupt, SystemExit)) and not task.owned:
                raise ended

    def _cancel_all(self, keep: Task) -> None:
        """Cancel every task but `keep`, and run the loop until they have cleaned up."""
        self.current = None
        while living := [task for task in self.tasks if task is not keep]:
            for task in living:
                task.cancel()
            # Once cancelled, a task may take as many iterations as its `finally` needs; but a task
            # that swallows its cancellation must not keep the process for ever.
            late = self.clock() + CLEAN_UP_SECONDS
            alarm = self.timers.add(late, lambda: None)
            while self.clock() < late and any(task in self.tasks for task in living):
                self.iterate()
            self.timers.cancel(alarm)
            for task in living:
                if task in self.tasks:
                    report_left(_log, task.name)
                    self.left.append(task.name)
                    del self.tasks[task]

    async def _run_calls_from_outside(self) -> None:
        descriptor = Descriptor(self, self._wakeup_reader.fileno())
        while True:
            await suspend(ReadWait(descriptor))
            with contextlib.suppress(BlockingIOError):
                while self._wakeup_reader.recv(4096):
                    pass
            while self._from_outside:
                action = self._from_outside.popleft()
                try:
                    action()
                except Exception:  # noqa: BLE001
                    _log.exception("%r, called from outside the loop, failed", action)


if compiled.steps is not None:
    _methods = compiled.steps.bind_kernel(Kernel, Task)
    Kernel.process_events, Kernel.run_ready_tasks = _methods  # type: ignore[method-assign]
