"""The engine that `polling` and `selector` are made of."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import functools
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from anysock.engines.base import NOTHING
from anysock.engines.nonblocking.sockets import SocketsEngine
from anysock.engines.posix.signals import catch_signals
from anysock.engines.running import engine_is
from anysock.errors import Cancelled
from anysock.loop.kernel import Kernel
from anysock.loop.observers import WatchedLoop
from anysock.loop.pollers import Poller
from anysock.loop.scopes import Scope
from anysock.loop.tasks import Task, suspend
from anysock.loop.waits import Event, Sleep
from anysock.machine.process import leave_signals_to_the_main_thread

T = TypeVar("T")


class NonblockingEngine(SocketsEngine):
    """An `Engine` on our own loop, which waits by `poller` and by `clock` (seconds, monotonic)."""

    name: str
    loop = "anysock"
    concurrent = True
    one_thread = True
    cancellations: tuple[type[BaseException], ...] = (Cancelled,)

    def __init__(self, poller: Poller, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._kernel = Kernel(poller, clock)
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        #: The loop, to be watched: see `engines.own_loop`.
        self.own_loop = WatchedLoop(self._kernel)

    @property
    def watch(self) -> Kernel:
        return self._kernel

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        try:
            with self.own_loop.watchdog(), engine_is(self), interrupts_cancel(self._kernel):
                return self._kernel.run(main)
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> Task:
        return self._kernel.spawn(coro, name)

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        self._kernel.call_from_outside(func)

    def event(self) -> Event:
        return Event(self._kernel)

    async def sleep(self, seconds: float) -> None:
        await suspend(Sleep(self._kernel, seconds))

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> Scope:
        return Scope(self._kernel, seconds, shield)

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(
                thread_name_prefix="anysock", initializer=leave_signals_to_the_main_thread
            )
        future = self._threads.submit(contextvars.copy_context().run, func, *args)
        finished = Event(self._kernel)
        future.add_done_callback(lambda _: self._kernel.call_from_outside(finished.set))
        await finished.wait()
        return future.result()

    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> contextlib.AbstractContextManager[None]:
        def deliver(func: Callable[[int], None], signum: int) -> None:
            self._kernel.call_from_outside(functools.partial(func, signum))

        return catch_signals(
            signals, deliver, first, again, wakeup=self._kernel.wakeup_pipe, others=others
        )

    @property
    def left(self) -> Sequence[str]:
        return self._kernel.left

    def living(self) -> Sequence[str]:
        return [task.name for task in list(self._kernel.tasks)]

    def current_task(self) -> Task:
        assert self._kernel.current is not None
        return self._kernel.current

    def now(self) -> float:
        return self._kernel.clock()


@contextlib.contextmanager
def interrupts_cancel(kernel: Kernel) -> Iterator[None]:
    """Within the block, Ctrl-C cancels what `kernel` runs; when all has cleaned up,
    KeyboardInterrupt is raised. A second Ctrl-C raises it on the spot.

    Python's own handler raises it between any two bytecodes: in the middle of the loop, too, which
    would then be left with half a step done.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def first(_signum: int) -> None:
        nonlocal interrupted
        interrupted = True
        kernel.call_from_outside(kernel.interrupt)

    def at_once(func: Callable[[int], None], signum: int) -> None:
        func(signum)

    def again(signum: int) -> None:
        signal.default_int_handler(signum, None)

    with catch_signals((signal.SIGINT,), at_once, first, again, wakeup=kernel.wakeup_pipe):
        try:
            yield
        except Cancelled:
            if interrupted:
                raise KeyboardInterrupt from None
            raise
