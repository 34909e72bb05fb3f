"""asyncio's tasks and timeouts, in the words of the engine contract."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from anysock.errors import Cancelled
from anysock.hints import CLEAN_UP_SECONDS, add_hint, report_failed, report_left

_log = logging.getLogger("anysock.engines")


class AsyncioTask:
    """An asyncio task, in the words of the engine contract."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._joined = False

    def cancel(self) -> None:
        cancel_task(self._task)

    @property
    def name(self) -> str:
        return self._task.get_name()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def cancelling(self) -> bool:
        shields = _shields.get(self._task) if _shields else None
        return self._task.cancelling() > 0 or (shields is not None and shields.cancelling)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncioTask) and other._task is self._task

    def __hash__(self) -> int:
        return hash(self._task)

    async def join(self) -> Any:
        self._joined = True
        # Being cancelled while joining must not cancel the task that is joined.
        await asyncio.wait((self._task,))
        if self._task.cancelled():
            raise Cancelled
        return self._task.result()

    def report(self, task: asyncio.Task[Any]) -> None:
        """Report a failure at once, unless the task is joined."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            add_hint(error, "asyncio")
            if not self._joined:
                report_failed(_log, self.name, error)


class AsyncioScope:
    """``async with`` block that ends early, as that of ``asyncio.timeout`` does; which is not used,
    since it would cancel a task that is shielded."""

    def __init__(self, seconds: float | None, shield: bool = False) -> None:
        self._seconds = seconds
        self._shield = shield
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.Handle | None = None
        self._cancelled = False
        # How many shields its block is in, with its own.
        self._depth = 0
        # Whether it has cancelled its task, and how often that was cancelled when it was entered.
        self._has_cancelled = False
        self._cancelling = 0
        self.fired = False

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if self._task is not None and not self._has_cancelled:
                self.fire_soon()

    def fire_soon(self) -> None:
        """Give the block up, when its task does not run: then the cancellation is raised at an
        await within, and at no other."""
        assert self._task is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._task.get_loop().call_soon(self._fire)

    def _fire(self) -> None:
        assert self._task is not None
        self._timer = None
        self._cancelled = True
        if not held_back(self._task, self._depth, self.fire_soon):
            self._has_cancelled = True
            self._task.cancel()

    async def __aenter__(self) -> Self:
        self._task = task = asyncio.current_task()
        assert task is not None
        if self._shield:
            self._depth = await shield(task)
        elif _shields and task in _shields:
            self._depth = _shields[task].depth
        self._cancelling = task.cancelling()
        if self._cancelled:
            self.fire_soon()
        elif self._seconds is not None:
            if self._seconds <= 0:
                self.fire_soon()
            else:
                self._timer = task.get_loop().call_later(self._seconds, self._fire)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        assert task is not None
        if self._timer is not None:
            self._timer.cancel()
        if self._shield:
            unshield(task)
        if self._has_cancelled and task.uncancel() <= self._cancelling:
            self.fired = isinstance(error, asyncio.CancelledError)
        return self.fired


class _Shields:
    """The blocks of a task that hold back what comes from outside: how many it is in, and what is
    to be called when fewer are left."""

    def __init__(self) -> None:
        self.depth = 0
        self.held: list[tuple[int, Callable[[], object]]] = []
        #: Whether the end of the task is held back.
        self.cancelling = False
        # Around each block, if anyio is there: its scopes cancel a task again and again.
        self.anyio_scopes: list[Any] = []


# Of the tasks that are shielded. What is not ours cancels them all the same, since asyncio has no
# way to hold that back: `asyncio.Task.cancel`, called by hand, and `asyncio.timeout`.
_shields: weakref.WeakKeyDictionary[asyncio.Task[Any], _Shields] = weakref.WeakKeyDictionary()


def held_back(task: asyncio.Task[Any], depth: int, cancel_soon: Callable[[], object]) -> bool:
    """True if `task` is shielded from what is `depth` shields deep. Then `cancel_soon` is called
    when it is no more."""
    shields = _shields.get(task) if _shields else None
    if shields is None or depth >= shields.depth:
        return False
    shields.held.append((depth, cancel_soon))
    return True


async def shield(task: asyncio.Task[Any]) -> int:
    """Shield the calling `task`, until `unshield`; return how many shields it is in."""
    shields = _shields.setdefault(task, _Shields())
    shields.depth += 1
    anyio: Any = sys.modules.get("anyio")
    scope = None if anyio is None else anyio.CancelScope(shield=True)
    shields.anyio_scopes.append(scope)
    if scope is not None:
        scope.__enter__()
    if task.cancelling():
        # It may have been cancelled since its last await. That is raised at the next, so here.
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.uncancel()
            shields.cancelling = True
            shields.held.append((0, functools.partial(_cancel_soon, task)))
    return shields.depth


def unshield(task: asyncio.Task[Any]) -> None:
    """The end of the block that `shield` has begun."""
    shields = _shields[task]
    if (scope := shields.anyio_scopes.pop()) is not None:
        scope.__exit__(None, None, None)
    shields.depth -= 1
    if not shields.depth:
        del _shields[task]
    held, shields.held = shields.held, []
    for depth, cancel_soon in held:
        if depth < shields.depth:
            shields.held.append((depth, cancel_soon))
        else:
            cancel_soon()


def _cancel_soon(task: asyncio.Task[Any]) -> None:
    """Cancel `task` once it does not run: then that is raised at its next await, and no later."""
    task.get_loop().call_soon(task.cancel)


def cancel_task(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, or as soon as it is not shielded."""
    if held_back(task, 0, functools.partial(_cancel_soon, task)):
        _shields[task].cancelling = True
        return
    coro: Any = task.get_coro()
    if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
        # asyncio would throw the coroutine away before its first line, and the `finally` of its
        # first block with it. In the next iteration it stands at an await.
        _cancel_soon(task)
    else:
        task.cancel()


@contextlib.contextmanager
def past_cancellations() -> Iterator[None]:
    """As `Engine.past_cancellations` says it: asyncio cancels a task once, but a scope of anyio
    does it again in each iteration of the loop."""
    anyio: Any = sys.modules.get("anyio")
    if anyio is None or anyio.current_effective_deadline() > -math.inf:
        yield
        return
    with anyio.CancelScope(shield=True):
        yield


async def end_all() -> list[str]:
    """Cancel all tasks, and wait until they have cleaned up; return the names of those that have
    not done so in time. asyncio would wait for these for ever."""
    living = asyncio.all_tasks() - {asyncio.current_task()}
    for task in living:
        cancel_task(task)
    if not living:
        return []
    _, left = await asyncio.wait(living, timeout=CLEAN_UP_SECONDS)
    for task in left:
        report_left(_log, task.get_name())
        # From here on, asyncio knows nothing of it.
        asyncio.tasks._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return [task.get_name() for task in left]
