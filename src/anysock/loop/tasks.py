"""Tasks: what the loop runs; and the wait, which is all that they and the loop say to each other.

A task is a coroutine, the context (`contextvars`) that it runs in, and the little that the loop
must know of it. At any moment it is

* running: it is `Kernel.current`;
* ready: it stands in the loop's ready queue, and `wait` is None;
* paused: `wait` is what it waits for; or
* done: `done` is true, and `join` gives its result or raises its exception.

A coroutine yields a `Wait`, and the kernel calls its `enter`. From then on the wait knows which
task to wake, and does so with `Kernel.wake`. When the task is to be woken for another reason (it
was cancelled), the kernel calls `leave`, and the wait forgets it."""

from __future__ import annotations

import contextvars
import logging
import types
from collections.abc import Coroutine, Generator
from typing import Any, ClassVar, Protocol

from anysock.errors import Cancelled
from anysock.hints import report_failed

_log = logging.getLogger("anysock.loop")


class Wait:
    """What a task can pause on: two methods."""

    __slots__ = ()

    #: What it waits for, in a word, for observers: see `anysock.traces.format.WAITS`.
    kind: ClassVar[str] = "event"

    def enter(self, task: Task) -> None:
        """`task` pauses on this. What is raised here is raised at the task's await."""
        raise NotImplementedError

    def leave(self, task: Task) -> None:
        """`task`, which entered, no longer waits for this."""
        raise NotImplementedError


@types.coroutine
def suspend(wait: Wait) -> Generator[Wait, Any, Any]:
    """Pause the running task on `wait`, and return what it is woken with. The one door between
    coroutines and the kernel."""
    return (yield wait)


class CancelScope(Protocol):
    """What a task needs of a scope."""

    #: How many shields its block is in, with its own.
    depth: int


class Shields:
    """The blocks of a task that hold back what comes from outside: how many it is in, and what they
    hold."""

    __slots__ = ("depth", "held")

    def __init__(self) -> None:
        self.depth = 0
        self.held: list[tuple[int, Cancelled]] = []


class TaskKernel(Protocol):
    """What a task needs of the kernel."""

    current: Task | None

    def wake(self, task: Task, outcome: Any = None) -> None: ...


class Task:
    """One coroutine under the loop. Made by `Kernel.spawn`."""

    __slots__ = (
        "_exception",
        "_kernel",
        "_name",
        "_result",
        "cancellations",
        "cancelling",
        "context",
        "coro",
        "done",
        "joiners",
        "outcome",
        "owned",
        "shields",
        "wait",
    )

    def __init__(self, kernel: TaskKernel, coro: Coroutine[Any, Any, Any], name: object) -> None:
        self._kernel = kernel
        self.coro = coro
        # What the task sets (`ContextVar.set`, ``decimal.localcontext``) is its own, and what was
        # set where it was spawned is there: a copy, which shares its values with the original until
        # one of them changes, and so costs an object and no more. Each step is run by its `run`,
        # and so an observer may stand in its place.
        self.context = contextvars.copy_context()
        self._name = name
        self.wait: Wait | None = None
        # What the task is resumed with when the ready queue reaches it: an exception is raised at
        # its await, anything else is what the await returns.
        self.outcome: Any = None
        # Asked for while the task was running or ready; delivered when it next pauses.
        self.cancellations: tuple[Cancelled, ...] = ()
        #: Whether the end of the task, and not of a scope of it, was asked for.
        self.cancelling = False
        self.done = False
        # Whether its outcome is looked at in any case, so that the task needs no report.
        self.owned = False
        # (Few tasks are joined or cancelled, so that a container for it would only cost memory.)
        self.joiners: dict[Task, None] | None = None
        # None while it is in no block that shields it.
        self.shields: Shields | None = None
        # Until it is done, what its steps go to straight where the loop is compiled: `_straight.h`.
        # (One slot for both: each idle connection has a task.)
        self._result: Any = None
        self._exception: BaseException | None = None

    @property
    def name(self) -> str:
        return str(self._name)

    def __repr__(self) -> str:
        state = "done" if self.done else f"paused on {self.wait}" if self.wait else "ready"
        return f"<Task {self.name!r} {state}>"

    def cancel(self, scope: CancelScope | None = None) -> None:
        """Raise `Cancelled` at the task's next await (the present one, if it is paused), once.

        A task that is about to run is not cut off from what woke it: it gets that first, and
        `Cancelled` when it pauses again; so nothing that it was handed is lost. Does nothing
        to a task that is done.
        """
        if self.done:
            return
        if scope is None:
            self.cancelling = True
        cancelled = Cancelled(scope)
        if (shields := self.shields) is not None:
            depth = 0 if scope is None else scope.depth
            if depth < shields.depth:
                shields.held.append((depth, cancelled))
                return
        self._deliver(cancelled)

    def _deliver(self, cancelled: Cancelled) -> None:
        paused_on = self.wait
        if paused_on is not None and self is not self._kernel.current:
            paused_on.leave(self)
            self._kernel.wake(self, cancelled)
            return
        self.cancellations += (cancelled,)
        if paused_on is not None:
            # Running, and straight from the poller, so that `wait` still names what it was woken
            # by. Taken away, the kernel's fast path cannot mistake the next pause for the same.
            paused_on.leave(self)
            self.wait = None

    def shield(self) -> int:
        """From now on, until `unshield`, only scopes that are entered later, or now, cancel it.
        Returns how many shields it is in. To be called by the task itself."""
        if self.shields is None:
            self.shields = Shields()
        shields = self.shields
        for cancelled in self.cancellations:
            scope: Any = cancelled.scope
            shields.held.append((0 if scope is None else scope.depth, cancelled))
        self.cancellations = ()
        shields.depth += 1
        return shields.depth

    def unshield(self) -> None:
        """The end of the block that `shield` has begun."""
        shields = self.shields
        assert shields is not None
        shields.depth -= 1
        held, shields.held = shields.held, []
        if not shields.depth:
            self.shields = None
        for depth, cancelled in held:
            if depth < shields.depth:
                shields.held.append((depth, cancelled))
            else:
                self._deliver(cancelled)

    async def join(self) -> Any:
        """Wait until the task is done; return its result, or raise its exception.

        A cancelled task raises `Cancelled`.
        """
        if not self.done:
            await suspend(_Join(self))
        return self.result()

    def result(self) -> Any:
        """The result of a task that is done; what it raised is raised."""
        if self._exception is not None:
            raise self._exception
        return self._result

    def finish(self, result: Any, exception: BaseException | None) -> None:
        """Called by the kernel when the coroutine has ended."""
        self.done = True
        self._result = result
        self._exception = exception
        if self.joiners:
            for joiner in self.joiners:
                self._kernel.wake(joiner)
            self.joiners = None
        elif exception is not None and not self.owned:
            # In the task's context, whose values tell a filter of the log whose failure it is.
            self.context.copy().run(report_failed, _log, self.name, exception)


class _Join(Wait):
    """Pause until another task is done."""

    __slots__ = ("target",)

    kind = "join"

    def __init__(self, target: Task) -> None:
        self.target = target

    def enter(self, task: Task) -> None:
        if self.target.joiners is None:
            self.target.joiners = {}
        self.target.joiners[task] = None

    def leave(self, task: Task) -> None:
        assert self.target.joiners is not None
        del self.target.joiners[task]
