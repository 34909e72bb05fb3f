"""asyncio's tasks and timeouts, in the words of the engine contract."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import sys
from collections.abc import Iterator
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
        coro: Any = self._task.get_coro()
        if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
            # asyncio would throw the coroutine away before its first line, and the `finally` of its
            # first block with it. In the next iteration it stands at an await.
            asyncio.get_running_loop().call_soon(self._task.cancel)
        else:
            self._task.cancel()

    @property
    def name(self) -> str:
        return self._task.get_name()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def cancelling(self) -> bool:
        return self._task.cancelling() > 0

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
    """``async with`` block that ends early, on ``asyncio.timeout``."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timeout: asyncio.Timeout | None = None
        self._cancelled = False
        self.fired = False

    def cancel(self) -> None:
        self._cancelled = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(-math.inf)

    async def __aenter__(self) -> Self:
        self._timeout = asyncio.timeout(-math.inf if self._cancelled else self._seconds)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        assert self._timeout is not None
        timeout, self._timeout = self._timeout, None
        try:
            await timeout.__aexit__(kind, error, trace)
        except TimeoutError:  # it raises this for its own end alone
            self.fired = True
        return self.fired


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
        task.cancel()
    if not living:
        return []
    _, left = await asyncio.wait(living, timeout=CLEAN_UP_SECONDS)
    for task in left:
        report_left(_log, task.get_name())
        # From here on, asyncio knows nothing of it.
        asyncio.tasks._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return [task.get_name() for task in left]
