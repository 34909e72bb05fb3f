"""trio's tasks, scopes and events, in the words of the engine contract."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
from collections.abc import Awaitable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from anysock.errors import Cancelled, is_only
from anysock.hints import add_hint, report_failed

T = TypeVar("T")
_log = logging.getLogger("anysock.engines")

#: What a cancellation is raised as.
CANCELLATIONS: tuple[type[BaseException], ...] = (Cancelled, trio.Cancelled)


class TrioScope:
    """``async with`` block that ends early, on two of trio's scopes.

    The outer one is cancelled. Once the task has got that cancellation, the inner one is made a
    shield, so that it gets no other.
    """

    def __init__(self, seconds: float | None, shield: bool = False) -> None:
        self._seconds = seconds
        #: Whether it holds back what comes from outside.
        self.shields = shield
        self._outer = trio.CancelScope(shield=shield)
        self._inner = trio.CancelScope()
        self._task: TrioTask | None = None
        self.fired = False

    def cancel(self) -> None:
        self._outer.cancel()

    @property
    def cancel_called(self) -> bool:
        return self._outer.cancel_called

    def deliver(self) -> bool:
        """A cancellation was raised in the block. True when this scope was cancelled, and its
        task had not got that cancellation; now it has."""
        if not self.pending:
            return False
        self._inner.shield = True
        return True

    @property
    def pending(self) -> bool:
        """Whether it was cancelled, and its task has not got that cancellation."""
        return self._outer.cancel_called and not self._inner.shield

    async def __aenter__(self) -> Self:
        self.enter()
        return self

    def enter(self) -> None:
        if self._seconds is not None:
            self._outer.deadline = trio.current_time() + self._seconds
        self._task = running_task()
        self._task.scopes.append(self)
        self._outer.__enter__()
        self._inner.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self.leave(error)

    def leave(self, error: BaseException | None) -> bool:
        """True when `error` is the end of this scope, and goes no further."""
        assert self._task is not None
        self._task.scopes.remove(self)
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        self._inner.__exit__(kind, error, trace)
        self._outer.__exit__(kind, error, trace)
        self.fired = self._outer.cancelled_caught
        return self.fired


class TrioTask:
    """A task of trio, in the words of the engine contract."""

    def __init__(self, coro: Coroutine[Any, Any, Any] | None, name: str) -> None:
        self.name = name
        self.done = False
        # What ends all tasks together.
        self._all_tasks: trio.CancelScope | None = None
        #: The scopes that the task is in, the outermost first.
        self.scopes: list[TrioScope] = []
        self._coro = coro
        self._own = TrioScope(None)
        self._finished = trio.Event()
        self._joined = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def cancel(self) -> None:
        self._own.cancel()

    @property
    def cancelling(self) -> bool:
        return self._own.cancel_called or (
            self._all_tasks is not None and self._all_tasks.cancel_called
        )

    async def run(self) -> None:
        """Run the coroutine in a task of trio's, and keep what comes of it for `join`."""
        assert self._coro is not None
        task = trio.lowlevel.current_task()
        assert task.parent_nursery is not None
        self._all_tasks = task.parent_nursery.cancel_scope
        _running.set((task, self))
        self._own.enter()
        error: BaseException | None = None
        try:
            self._result = await self._coro
        except BaseException as raised:  # noqa: BLE001
            error = raised
            add_hint(error, "trio")
        try:
            if self._own.leave(error):
                self._exception = Cancelled()
            elif isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._exception = error
                raise error
            elif error is not None and is_only(error, CANCELLATIONS):
                self._exception = Cancelled()
                if self.cancelling and is_only(error, (trio.Cancelled,)):
                    raise error
                # Raised by hand, or handed on from elsewhere: it is no affair of trio's.
            elif error is not None:
                self._exception = error
                if not self._joined:
                    report_failed(_log, self.name, error)
        finally:
            del error
            self.done = True
            self._finished.set()

    async def join(self) -> Any:
        self._joined = True
        await deliver_cancel_once(self._finished.wait())
        if self._exception is not None:
            raise self._exception
        return self._result


# Which of our tasks a task of trio's is. A task that another library has spawned inherits the value
# of its parent, and so the value names the task that it is about.
_running: contextvars.ContextVar[tuple[trio.lowlevel.Task, TrioTask]] = contextvars.ContextVar(
    "anysock_trio_task"
)


def running_task() -> TrioTask:
    """The task that calls. One that trio runs without our doing gets one to stand for it."""
    task = trio.lowlevel.current_task()
    known = _running.get(None)
    if known is not None and known[0] is task:
        return known[1]
    ours = TrioTask(None, task.name)
    _running.set((task, ours))
    return ours


async def deliver_cancel_once(awaitable: Awaitable[T]) -> T:
    """Await something of trio's, for a task of ours. Each scope interrupts it only once."""
    try:
        return await awaitable
    except trio.Cancelled:
        # The innermost first: the others deliver theirs outside of its block.
        for scope in reversed(running_task().scopes):
            if scope.deliver() or scope.shields:
                break
        raise


@contextlib.contextmanager
def past_cancellations() -> Iterator[None]:
    """As `Engine.past_cancellations` says it: a scope that is not ours cancels each await, once it
    is cancelled."""
    comes = any(scope.pending for scope in running_task().scopes)
    if comes or trio.current_effective_deadline() > -math.inf:
        yield
        return
    with trio.CancelScope(shield=True):
        yield


class TrioEvent:
    """A flag that tasks wait for."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        if not self._event.is_set():
            await deliver_cancel_once(self._event.wait())
