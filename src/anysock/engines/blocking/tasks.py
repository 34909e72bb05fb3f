"""Tasks, deadlines and events where waiting means to sleep: for `blocking` and `threads`.

Nothing reaches a thread that sleeps. So what may end its sleep early, a deadline or a cancellation,
must be known before it goes to sleep (`BlockingTask.time_left`), or wake it (`BlockingTask.wake`).
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import select
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar

from anysock.engines.blocking.listener import milliseconds
from anysock.errors import Cancelled
from anysock.hints import add_hint, not_ours, report_failed

T = TypeVar("T")

# Seconds. Deadlines further away than this wake no thread: some system calls take no longer
# timeouts.
NEVER = 1e9

_log = logging.getLogger("anysock.engines")

# Held while a wake-up pipe is written to, so that it is not closed meanwhile.
_pipes = threading.Lock()


def run_to_its_end(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        awaited = coro.send(None)
        # Raised where it awaits, as a loop would do it.
        coro.throw(TypeError(not_ours(awaited)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coro.close()
    raise RuntimeError(
        "a coroutine went on to await what is not Anysock's, after the error that says so"
    )


class BlockingTask:
    """A coroutine that a thread runs, and the means to end its waiting from another thread.

    `cancel` reaches a task at once that sleeps, connects, or waits for an event. A task that waits
    to receive or to send notices when that returns: only its peer, or `Stream.abort`, wakes it.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any] | None, name: str) -> None:
        self.name = name
        self.done = False
        #: The scopes that the task is in, and that have not fired.
        self.scopes: list[BlockingScope] = []
        #: While it is in blocks that shield it: the scopes around each, which wait.
        self.held_back: list[list[BlockingScope]] = []
        self._coro = coro
        # What the task sets is its own; what was set where it was spawned is there.
        self._context = contextvars.copy_context()
        self._wake = threading.Event()
        # What wakes it while it sleeps in poll(2).
        self._wakeup_pipe: socket.socket | None = None
        self._cancelled = False
        self._cancel_delivered = False
        self._finished = BlockingEvent()
        self._joined = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def run(self) -> None:
        """Run the coroutine on this thread, and keep what comes of it for `join`."""
        assert self._coro is not None
        previous, _running.task = running_task(), self
        try:
            self._result = self._context.run(run_to_its_end, self._coro)
        except (KeyboardInterrupt, SystemExit) as error:
            self._exception = error
            raise
        except BaseException as error:  # noqa: BLE001
            self._exception = error
            add_hint(error)
            if not self._joined:
                self._context.run(report_failed, _log, self.name, error)
        finally:
            _running.task = previous
            self.done = True
            self._finished.set()

    def drop(self) -> None:
        """The task will never run."""
        assert self._coro is not None
        self._coro.close()

    def cancel(self) -> None:
        self._cancelled = True
        self.wake()

    @property
    def cancelling(self) -> bool:
        return self._cancelled

    async def join(self) -> Any:
        self._joined = True
        await self._finished.wait()
        if self._exception is not None:
            raise self._exception
        return self._result

    def time_left(self) -> float | None:
        """The seconds that the next operation may take; None: without limit.

        Raises `Cancelled` when the task was cancelled, or when a deadline has passed.
        """
        if self._cancelled and not self._cancel_delivered and not self.held_back:
            self._cancel_delivered = True
            raise Cancelled
        if not self.scopes:
            return None
        nearest = min(self.scopes, key=lambda scope: scope.when)
        left = nearest.when - time.monotonic()
        if left <= 0:
            self.scopes.remove(nearest)
            raise Cancelled(nearest)
        return left if left < NEVER else None

    @property
    def is_late(self) -> bool:
        """Whether `time_left` would raise."""
        if self._cancelled and not self._cancel_delivered and not self.held_back:
            return True
        return bool(self.scopes) and min(scope.when for scope in self.scopes) <= time.monotonic()

    def wait(self, seconds: float | None) -> None:
        """Sleep until `wake`, or for `seconds`. Raises as `time_left` does."""
        left = self.time_left()
        if left is not None:
            seconds = left if seconds is None else min(seconds, left)
        self._wake.wait(seconds)
        self._wake.clear()
        self.time_left()

    def await_writable(self, sock: socket.socket) -> None:
        """Sleep until `sock` is writable, or has failed. Raises as `time_left` does."""
        reader, writer = socket.socketpair()
        with reader, writer:
            writer.setblocking(False)
            poller = select.poll()
            poller.register(sock, select.POLLOUT)
            poller.register(reader, select.POLLIN)
            self._wakeup_pipe = writer
            try:
                while True:
                    # In this order: a cancellation from before the pipe was there is seen here, and
                    # a later one writes to it.
                    left = self.time_left()
                    timeout = None if left is None else milliseconds(left)
                    ready = dict(poller.poll(timeout))
                    if sock.fileno() in ready:
                        return
                    if ready:
                        reader.recv(64)
            finally:
                with _pipes:
                    self._wakeup_pipe = None

    def wake(self) -> None:
        self._wake.set()
        with _pipes:
            if self._wakeup_pipe is not None:
                # A full pipe wakes it already.
                with contextlib.suppress(BlockingIOError):
                    self._wakeup_pipe.send(b"!")


class BlockingScope:
    """``async with`` block that ends early: it bounds each wait within the block. With `shield`,
    nothing from outside does."""

    def __init__(self, seconds: float | None, shield: bool = False) -> None:
        self._seconds = seconds
        self._shield = shield
        self._task: BlockingTask | None = None
        #: When it fires, by the monotonic clock.
        self.when = math.inf
        self.fired = False

    def cancel(self) -> None:
        self.when = -math.inf
        if self._task is not None:
            self._task.wake()

    async def __aenter__(self) -> Self:
        self._task = running_task()
        if self._seconds is not None:
            self.when = min(self.when, time.monotonic() + self._seconds)
        if self._shield:
            self._task.held_back.append(self._task.scopes)
            self._task.scopes = []
        self._task.scopes.append(self)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert self._task is not None
        if self._shield:
            self._task.scopes = self._task.held_back.pop()
        elif self in self._task.scopes:
            self._task.scopes.remove(self)
        self.fired = isinstance(error, Cancelled) and error.scope is self
        return self.fired


class _Running(threading.local):
    """The task that each thread runs. A thread that we did not start has one that stands for it."""

    def __init__(self) -> None:
        self.task = BlockingTask(None, threading.current_thread().name)


class BlockingEvent:
    """A flag that threads wait for."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: dict[BlockingTask, None] = {}

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for task in list(self._waiters):
            task.wake()

    async def wait(self) -> None:
        task = running_task()
        self._waiters[task] = None
        try:
            # In this order: a task that joins the waiters before the flag goes up is woken, and one
            # that joins after sees it.
            while not self._set:
                task.wait(None)
        finally:
            self._waiters.pop(task, None)


_running = _Running()


def running_task() -> BlockingTask:
    """The task that the calling thread runs."""
    return _running.task


@contextlib.contextmanager
def task_of_main() -> Iterator[BlockingTask]:
    """Within the block, the calling thread has a task of its own; then what it had before."""
    previous, _running.task = _running.task, BlockingTask(None, "main")
    try:
        yield _running.task
    finally:
        _running.task = previous
