"""The engine `asyncio`, and what it shares with the others on asyncio's loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import threading
import types
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from anysock.engines.asyncio.tasks import (
    AsyncioScope,
    AsyncioTask,
    end_all,
    past_cancellations,
)
from anysock.engines.asyncio.watching import LoopWatch
from anysock.engines.base import NOTHING, Stream
from anysock.engines.nonblocking.sockets import SocketsEngine
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.signals import catch_signals
from anysock.engines.running import engine_is
from anysock.errors import Cancelled

T = TypeVar("T")


class AsyncioBase(PosixEngine):
    """What engines on asyncio's loop do alike: all but the sockets."""

    name: str
    loop = "asyncio"
    concurrent = True
    one_thread = True
    cancellations: tuple[type[BaseException], ...] = (Cancelled, asyncio.CancelledError)
    _loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def __init__(self) -> None:
        super().__init__()
        # asyncio refers to its tasks weakly: without this, one that only waits for a peer may
        # be collected while it waits (cpython 91887).
        self._tasks: set[asyncio.Task[Any]] = set()
        self.left: Sequence[str] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Whether another program runs the loop.
        self._hosted = False

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with engine_is(self), asyncio.Runner(loop_factory=self._loop_factory) as runner:
            self._loop = loop = runner.get_loop()
            # uvloop sees to that itself.
            heard = contextlib.nullcontext() if self._loop_factory else _interrupts_wake(loop)
            with heard:
                try:
                    return runner.run(main)
                finally:
                    self.left = runner.run(end_all())
                    self._leave_loop()

    def _leave_loop(self) -> None:
        """Give back what the loop was told to watch. It is closed after this."""

    @classmethod
    def on(cls, loop: asyncio.AbstractEventLoop) -> Self:
        """An engine for a loop that runs already, and that it does not keep alive."""
        engine = cls()
        engine._loop = weakref.proxy(loop)
        engine._hosted = True
        return engine

    async def accept(self, listener: Any) -> Stream:
        raise NotImplementedError

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> AsyncioTask:
        if not isinstance(coro, types.CoroutineType):
            # From Python 3.12 on, asyncio takes no other: not that of `types.coroutine`.
            coro = _awaited(coro)
        task = asyncio.get_running_loop().create_task(coro, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ours = AsyncioTask(task)
        task.add_done_callback(ours.report)
        return ours

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(func)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def living(self) -> Sequence[str]:
        return [task.get_name() for task in list(self._tasks)]

    def current_task(self) -> AsyncioTask:
        task = asyncio.current_task()
        assert task is not None
        return AsyncioTask(task)

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> AsyncioScope:
        return AsyncioScope(seconds, shield)

    def past_cancellations(self) -> contextlib.AbstractContextManager[object]:
        return past_cancellations()

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(func, *args)

    @contextlib.contextmanager
    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def deliver(func: Callable[[int], None], signum: int) -> None:
            loop.call_soon_threadsafe(functools.partial(func, signum))

        # Not loop.add_signal_handler: its handlers run on the loop, and `again` must work while
        # a handler blocks that. So the loop only gets a descriptor to be woken by.
        with (
            _bell(loop) as wakeup,
            catch_signals(signals, deliver, first, again, wakeup=wakeup, others=others),
        ):
            yield

    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def _awaited(coro: Coroutine[Any, Any, T]) -> T:
    return await coro


class AsyncioEngine(SocketsEngine, AsyncioBase):
    """asyncio's loop, and in it a poller of our own."""

    name = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self._watch: Callable[[], LoopWatch | None] = lambda: None

    @property
    def watch(self) -> LoopWatch:
        # Referred to weakly: it keeps its loop alive, and the engine of a loop that runs already
        # (`on`) must not do so. What is watched keeps it.
        watch = self._watch()
        if watch is None:
            watch = LoopWatch(asyncio.get_running_loop(), hosted=self._hosted)
            self._watch = weakref.ref(watch)
        return watch

    def _leave_loop(self) -> None:
        if (watch := self._watch()) is not None:
            watch.close()


@contextlib.contextmanager
def _interrupts_wake(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Within the block, a Ctrl-C wakes the loop. asyncio's own handler of it, which
    `asyncio.Runner` puts in place, is not heard when the signal comes in the very moment in which
    the loop goes to sleep, until it wakes for some other reason."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _bell(loop) as wakeup:
        previous = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)


@contextlib.contextmanager
def _bell(loop: asyncio.AbstractEventLoop) -> Iterator[socket.socket]:
    """A socket that wakes the loop when a byte is written to it."""
    wakeup, other = socket.socketpair()
    wakeup.setblocking(False)
    other.setblocking(False)
    loop.add_reader(other, _drain, other)
    try:
        yield wakeup
    finally:
        loop.remove_reader(other)
        wakeup.close()
        other.close()


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass
