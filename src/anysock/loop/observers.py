"""Observers: they are told what the loop does. Without one, the loop pays nothing for this.

An observer is put in by wrapping what the kernel calls anyway, the poller, and `run` of the context
of each task: the kernel's own code is the same, and has nothing to ask, when there is no observer.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from anysock.errors import WrongType
from anysock.loop.pollers import Poller
from anysock.loop.tasks import Task, Wait
from anysock.loop.timers import Timer, Timers
from anysock.loop.watchdog import Watchdog

if TYPE_CHECKING:
    from anysock.loop.kernel import Kernel

_log = logging.getLogger("anysock.loop")


class Observer:
    """The base of observers. A subclass defines the methods that it wants; each is called on the
    loop, and so must be quick. Times are in seconds, on the loop's clock."""

    #: What is told of steps and turns by the compiled loop itself, as long as there is no other
    #: observer: a `Recorder` of a compiled module. None: the loop leaves its compiled path.
    recorder: Any = None

    def step(
        self, task: Task, began: float, ended: float, wait: Wait | None, error: BaseException | None
    ) -> None:
        """A task has run from one await to the next, where it waits for `wait`; or, with None, to
        its end, with `error`, if it was raised. This calls `task_stepped`, and then `task_paused`
        or `task_done`: a subclass may define it instead of those, which is cheaper."""
        self.task_stepped(task, ended - began)
        if wait is not None:
            self.task_paused(task, wait)
        else:
            self.task_done(task, error)

    def turn_began(self, slept: float, woken: int) -> None:
        """The poller has returned, after `slept` seconds, with `woken` ready descriptors."""

    def task_spawned(self, task: Task) -> None:
        """A task was made. It has not run yet."""

    def task_stepped(self, task: Task, seconds: float) -> None:
        """A task has run for `seconds`, from one await to the next, or to its end."""

    def task_paused(self, task: Task, wait: Wait) -> None:
        """A task has come to an await, and waits for `wait`. Follows `task_stepped`."""

    def task_done(self, task: Task, error: BaseException | None) -> None:
        """A task has ended; with `error`, if it was raised. Follows `task_stepped`."""

    # The next four are told only where an observer has a method of its own for one of them.

    def task_woken(self, task: Task, outcome: Any) -> None:
        """A task that waited is ready: what it waited for has come, or `outcome` is raised."""

    def timer_set(self, number: int, when: float) -> None:
        """A timer is due at `when`."""

    def timer_ended(self, number: int, fired: bool) -> None:
        """A timer has fired, or was cancelled."""

    def interest_changed(self, fd: int, interest: int) -> None:
        """The poller is asked to report `interest` of a descriptor: a mask of READABLE and
        WRITABLE; 0: nothing."""


_INNER = ("task_woken", "timer_set", "timer_ended", "interest_changed")


class WatchedLoop:
    """One kernel, to be watched: its observers, and what must be wrapped for them; and its
    watchdog."""

    def __init__(self, kernel: Kernel) -> None:
        #: What is watched.
        self.kernel = kernel
        self._poller = kernel.poller
        self._turn = kernel.turn
        self._observers: list[Observer] = []
        self._inner: _Inner | None = None
        self._slow_step: float | None = None

    def observe(self, observer: Observer) -> None:
        """Tell `observer` what the loop does from now on."""
        if not isinstance(observer, Observer):
            raise WrongType(
                f"observe() takes an object of a class made from Observer, not {observer!r}"
            )
        if not self._observers:
            self.kernel.poller = _ObservedPoller(self._poller, self.notify, self.kernel.clock)
            self.kernel.on_spawn = self._spawned
            for task in self.kernel.tasks:
                self._wrap(task)
        self._observers.append(observer)
        if self._inner is None and _wants_more(observer):
            self._inner = _Inner(self.kernel, self.notify)
        self._choose_path()

    def observed_by(self, kind: type[Observer]) -> bool:
        """Whether there is an observer of that class."""
        return any(isinstance(observer, kind) for observer in self._observers)

    def unobserve(self, observer: Observer) -> None:
        """Tell `observer` no more. Does nothing when it is not among the observers."""
        if observer not in self._observers:
            return
        self._observers.remove(observer)
        if self._inner is not None and not any(map(_wants_more, self._observers)):
            self._inner.stop()
            self._inner = None
        if not self._observers:
            self.kernel.poller = self._poller
            self.kernel.on_spawn = None
            for task in self.kernel.tasks:
                if isinstance(task.context, ObservedContext):
                    task.context = task.context.observed
        self._choose_path()

    def timers(self) -> list[tuple[int, float]]:
        """The number of each timer that is set, and when it is due, for an observer that wants to
        hear of timers: what was set before, it was not told."""
        return [] if self._inner is None else self._inner.timers()

    def _choose_path(self) -> None:
        """With one observer that has a recorder, the compiled loop goes on; with others, it does
        not."""
        if not self._observers:
            self.kernel.turn = self._turn
        else:
            recorder = self._observers[0].recorder if len(self._observers) == 1 else None
            self.kernel.turn = None if recorder is None else recorder.turn

    def watch_steps(self, seconds: float) -> None:
        """Warn, with its stack, of a step of a task that holds up all others for longer. To be
        called before the kernel runs."""
        self._slow_step = seconds

    @contextlib.contextmanager
    def watchdog(self) -> Iterator[None]:
        """Within the block, the steps are watched, if `watch_steps` was called."""
        watchdog = None if self._slow_step is None else Watchdog(self.kernel, self._slow_step)
        try:
            yield
        finally:
            if watchdog is not None:
                watchdog.stop()

    def notify(self, what: str, *about: Any) -> None:
        for observer in self._observers.copy():
            try:
                getattr(observer, what)(*about)
            except Exception:  # noqa: BLE001
                _log.exception("the observer %r failed in %s, and is taken out", observer, what)
                self.unobserve(observer)

    def stepped(
        self, task: Task, began: float, wait: Wait | None, error: BaseException | None
    ) -> None:
        """A step is over."""
        self.notify("step", task, began, self.kernel.clock(), wait, error)

    def _spawned(self, task: Task) -> None:
        self._wrap(task)
        self.notify("task_spawned", task)

    def _wrap(self, task: Task) -> None:
        observed = ObservedContext(task, self.stepped, self.kernel.clock)
        task.context = cast("contextvars.Context", observed)


def _wants_more(observer: Observer) -> bool:
    """Whether an observer wants to hear of timers, of wake-ups, of what the poller is asked."""
    kind = type(observer)
    return any(getattr(kind, name) is not getattr(Observer, name) for name in _INNER)


class ObservedContext:
    """The context of a task that reports the task's steps: outside of the context itself, so that
    observers can't change what the task sees."""

    __slots__ = ("_clock", "_run", "_task", "known", "observed", "recorder", "stepped")

    def __init__(
        self, task: Task, stepped: Callable[..., None], clock: Callable[[], float]
    ) -> None:
        self.observed = task.context
        self._run = task.context.run
        self._task = task
        self.stepped = stepped
        self._clock = clock
        #: An observer's recorder, and what that is to know of the task.
        self.recorder: Any = None
        self.known: Any = None

    def copy(self) -> contextvars.Context:
        return self.observed.copy()

    def run(self, resume: Callable[[Any], Any], value: Any) -> Any:
        began = self._clock()
        try:
            wait = self._run(resume, value)
        except BaseException as ended:
            error = None if isinstance(ended, StopIteration) else ended
            self.stepped(self._task, began, None, error)
            raise
        self.stepped(self._task, began, wait, None)
        return wait


class _ObservedPoller:
    """A poller that reports how long it has slept, and what it is asked."""

    def __init__(
        self, poller: Poller, notify: Callable[..., None], clock: Callable[[], float]
    ) -> None:
        self._poller = poller
        self._notify = notify
        self._clock = clock
        self.close = poller.close

    def register(self, fd: int, mask: int) -> None:
        self._notify("interest_changed", fd, mask)
        self._poller.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._notify("interest_changed", fd, mask)
        self._poller.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        self._notify("interest_changed", fd, 0)
        self._poller.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        began = self._clock()
        events = self._poller.poll(timeout, maxevents)
        self._notify("turn_began", self._clock() - began, len(events))
        return events


class _Inner:
    """Reports wake-ups and timers, from now on until `stop`. It stands before methods of the kernel
    and of its timers, which so need not know of it."""

    def __init__(self, kernel: Kernel, notify: Callable[..., None]) -> None:
        self._kernel: Any = kernel
        self._timers = kernel.timers
        self._notify = notify
        self._on = True
        self._number = 0
        self._numbers: dict[Timer, int] = {}
        for timer in kernel.timers.living():
            self._follow(timer)
        vars(kernel)["wake"] = self._wake
        vars(kernel.timers).update(add=self._add, cancel=self._cancel)

    def stop(self) -> None:
        self._on = False
        del vars(self._kernel)["wake"]
        for name in ("add", "cancel"):
            del vars(self._timers)[name]

    def _wake(self, task: Task, outcome: Any = None) -> None:
        type(self._kernel).wake(self._kernel, task, outcome)
        self._notify("task_woken", task, outcome)

    def timers(self) -> list[tuple[int, float]]:
        """The number of each timer that is set, and when it is due."""
        return [(number, timer.when) for timer, number in self._numbers.items()]

    def _add(self, when: float, action: Callable[[], object]) -> Timer:
        timer = Timers.add(self._timers, when, action)
        self._notify("timer_set", self._follow(timer), when)
        return timer

    def _follow(self, timer: Timer) -> int:
        """Have it told when the timer fires. Returns its number."""
        self._number += 1
        number, action = self._number, timer.action
        assert action is not None

        def fires() -> object:
            del self._numbers[timer]
            if self._on:
                self._notify("timer_ended", number, True)
            return action()

        timer.action = fires
        self._numbers[timer] = number
        return number

    def _cancel(self, timer: Timer) -> None:
        Timers.cancel(self._timers, timer)
        # (One that has fired is no more.)
        if (number := self._numbers.pop(timer, None)) is not None:
            self._notify("timer_ended", number, False)
