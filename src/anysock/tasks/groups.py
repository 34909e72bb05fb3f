"""Task groups: tasks that never outlive a block. The same under every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from anysock.engines.base import Task
from anysock.engines.current import current_engine
from anysock.errors import Cancelled, is_only
from anysock.hints import add_hint
from anysock.tasks import arguments

T = TypeVar("T")

_ENDS_ALL = (KeyboardInterrupt, SystemExit)


def task_group() -> TaskGroup:
    """A block whose tasks end with it:

    >>> import anysock
    >>> async def main():
    ...     async with anysock.task_group() as group:
    ...         tasks = [group.spawn(double(number)) for number in (1, 2, 3)]
    ...     return [await task.join() for task in tasks]
    >>> async def double(number):
    ...     await anysock.sleep(0)
    ...     return number * 2
    >>> anysock.run(main)
    [2, 4, 6]
    """
    return TaskGroup()


class TaskGroup:
    """``async with task_group() as group:`` leaves the block when all its tasks have ended.

    The first task that fails, or a failure of the block itself, cancels the others and what the
    block waits for. All that failed are raised together, as an ExceptionGroup (a BaseExceptionGroup
    where one of them is no Exception), but for SystemExit and KeyboardInterrupt, which are raised
    as they are; a task that is cancelled has not failed. When the task that is in the block is
    cancelled, so are the group's.

    Under `threads`, a task that waits to receive or to send notices its cancellation when that
    returns. Under `blocking`, each task runs to its end before `spawn` returns.
    """

    def __init__(self, *, background: bool = False) -> None:
        self._engine = current_engine()
        # `Engine.spawn_background` is for the toolkit's own tasks.
        self._spawn = self._engine.spawn_background if background else self._engine.spawn
        self._scope = self._engine.scope()
        # In the order of spawning, in which they are cancelled: a set would order them by address,
        # and a run could not be repeated.
        self._children: dict[GroupTask, None] = {}
        self._failures: list[BaseException] = []
        self._cancelled = False
        self._ended = False
        # Raised by the last task to end; a new one for each time that the group is waited for.
        self._empty = self._engine.event()

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> Task[T]:
        """Run `coro` as a task of the group. In a group that is being cancelled, it is cancelled
        at its first await. Raises RuntimeError when the block has ended."""
        arguments.check_task(coro, name, "spawn")
        if self._ended:
            coro.close()
            raise RuntimeError("the task group has ended")
        child = GroupTask(self, name)
        self._children[child] = None
        try:
            child.task = self._spawn(child.run(coro), name=name)
        except BaseException:
            self._children.pop(child, None)
            coro.close()
            raise
        if self._cancelled:
            child.cancel()
        return child

    def cancel(self) -> None:
        """Cancel all tasks of the group, and what the block waits for; the block then ends without
        an error, unless a task fails while it cleans up."""
        self._cancel_children()
        self._scope.cancel()

    def _cancel_children(self) -> None:
        # Once: a task that cleans up already must not be disturbed by the next failure.
        if not self._cancelled:
            self._cancelled = True
            for child in list(self._children):
                child.cancel()

    def _past_cancellations(self) -> contextlib.AbstractContextManager[object]:
        # The first must be met: it is for the tasks of the group, too.
        return self._engine.past_cancellations() if self._cancelled else contextlib.nullcontext()

    def _child_ended(self, child: GroupTask, failure: BaseException | None) -> None:
        self._children.pop(child, None)
        if failure is not None:
            self._failures.append(failure)
            self.cancel()
        if not self._children:
            self._empty.set()

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is not None:
            self._cancel_children()
        while self._children:
            # The last task may end between the check and the wait, on a thread of its own: then it
            # finds this event, or the second check finds that it has gone.
            self._empty = self._engine.event()
            if not self._children:
                break
            try:
                with self._past_cancellations():
                    await self._empty.wait()
            except BaseException as interruption:  # noqa: BLE001
                # A cancellation: that of the group's own scope, for a failure, or one from
                # outside. Children never outlive the block, so it is passed on to them first.
                self._cancel_children()
                if error is None or isinstance(error, Exception):
                    if isinstance(error, Exception):
                        self._failures.insert(0, error)
                    error = interruption
        self._ended = True
        if error is not None and not is_only(error, (GeneratorExit, *self._engine.cancellations)):
            self._failures.insert(0, error)
            error = None
        # These are meant for the whole program.
        ends_all = (each for each in self._failures if isinstance(each, _ENDS_ALL))
        final: BaseException | None = next(ends_all, None)
        try:
            given_up = await self._scope.__aexit__(
                type(error) if error is not None else None,
                error,
                error.__traceback__ if error is not None else None,
            )
            if final is not None:
                raise final
            if self._failures:
                raise BaseExceptionGroup("tasks of the group failed", self._failures) from None
            if error is None or given_up:
                return True
            raise error
        finally:
            # No cycle of exception, traceback, frame, and this.
            del error, final
            self._failures = []


class GroupTask:
    """A task of a group, in the words of the engine contract."""

    def __init__(self, group: TaskGroup, name: str | None) -> None:
        self._group = group
        self._name = name
        self._result: Any = None
        self._failure: BaseException | None = None
        self._cancelled = False
        self._finished = group._engine.event()
        self.task: Task[Any] | None = None
        self.done = False

    @property
    def name(self) -> str:
        return self.task.name if self.task is not None else self._name or ""

    @property
    def cancelling(self) -> bool:
        return self.task is not None and self.task.cancelling

    def cancel(self) -> None:
        if self.task is not None and not self.done:
            self.task.cancel()

    async def join(self) -> Any:
        """Wait until the task is done; return its result, or raise its exception, or `Cancelled`
        when it was cancelled."""
        await self._finished.wait()
        if self._cancelled:
            raise Cancelled
        if self._failure is not None:
            raise self._failure
        return self._result

    async def run(self, coro: Coroutine[Any, Any, Any]) -> None:
        try:
            self._result = await coro
        except BaseException as error:
            if is_only(error, self._group._engine.cancellations):
                self._cancelled = True
                raise
            # Not for the engine, which would report it, or end with it: for the block.
            self._failure = error
            add_hint(error, self._group._engine.loop)
        finally:
            self.done = True
            self._finished.set()
            self._group._child_ended(self, self._failure)
