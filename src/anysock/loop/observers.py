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
from anysock.loop.watchdog import Watchdog

if TYPE_CHECKING:
    from anysock.loop.kernel import Kernel

_log = logging.getLogger("anysock.loop")


class Observer:
    """The base of observers. A subclass defines the methods that it wants; each is called on the
    loop, and so must be quick. Times are in seconds, on the loop's clock."""

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


class WatchedLoop:
    """One kernel, to be watched: its observers, and what must be wrapped for them; and its
    watchdog."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._poller = kernel.poller
        self._observers: list[Observer] = []
        self._slow_step: float | None = None

    def observe(self, observer: Observer) -> None:
        """Tell `observer` what the loop does from now on."""
        if not isinstance(observer, Observer):
            raise WrongType(
                f"observe() takes an object of a class made from Observer, not {observer!r}"
            )
        if not self._observers:
            self._kernel.poller = _ObservedPoller(self._poller, self.notify, self._kernel.clock)
            self._kernel.on_spawn = self._spawned
            for task in self._kernel.tasks:
                self._wrap(task)
        self._observers.append(observer)

    def unobserve(self, observer: Observer) -> None:
        """Tell `observer` no more. Does nothing when it is not among the observers."""
        if observer in self._observers:
            self._observers.remove(observer)
            if not self._observers:
                self._kernel.poller = self._poller
                self._kernel.on_spawn = None
                for task in self._kernel.tasks:
                    if isinstance(task.context, _ObservedContext):
                        task.context = task.context.observed

    def watch_steps(self, seconds: float) -> None:
        """Warn, with its stack, of a step of a task that holds up all others for longer. To be
        called before the kernel runs."""
        self._slow_step = seconds

    @contextlib.contextmanager
    def watchdog(self) -> Iterator[None]:
        """Within the block, the steps are watched, if `watch_steps` was called."""
        watchdog = None if self._slow_step is None else Watchdog(self._kernel, self._slow_step)
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

    def _spawned(self, task: Task) -> None:
        self._wrap(task)
        self.notify("task_spawned", task)

    def _wrap(self, task: Task) -> None:
        observed = _ObservedContext(task, self.notify, self._kernel.clock)
        task.context = cast("contextvars.Context", observed)


class _ObservedContext:
    """The context of a task that reports the task's steps: outside of the context itself, so that
    observers can't change what the task sees."""

    def __init__(self, task: Task, notify: Callable[..., None], clock: Callable[[], float]) -> None:
        self.observed = task.context
        self._task = task
        self._notify = notify
        self._clock = clock

    def copy(self) -> contextvars.Context:
        return self.observed.copy()

    def run(self, resume: Callable[[Any], Any], value: Any) -> Any:
        clock, task = self._clock, self._task
        began = clock()
        try:
            wait = self.observed.run(resume, value)
        except BaseException as ended:
            self._notify("task_stepped", task, clock() - began)
            self._notify("task_done", task, None if isinstance(ended, StopIteration) else ended)
            raise
        self._notify("task_stepped", task, clock() - began)
        self._notify("task_paused", task, wait)
        return wait


class _ObservedPoller:
    """A poller that reports how long it has slept."""

    def __init__(
        self, poller: Poller, notify: Callable[..., None], clock: Callable[[], float]
    ) -> None:
        self._poller = poller
        self._notify = notify
        self._clock = clock
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister
        self.close = poller.close

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        began = self._clock()
        events = self._poller.poll(timeout, maxevents)
        self._notify("turn_began", self._clock() - began, len(events))
        return events
