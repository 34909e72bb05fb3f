"""The engine `trio`."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

import trio

from anysock.engines.base import NOTHING, Datagrams, SockAddr, Stream
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import ListeningSocket, SocketListener, accepted
from anysock.engines.posix.signals import catch_signals
from anysock.engines.running import engine_is
from anysock.engines.trio.streams import TrioDatagrams, TrioStream, wait_for_socket
from anysock.engines.trio.tasks import (
    CANCELLATIONS,
    TrioEvent,
    TrioScope,
    TrioTask,
    deliver_cancel_once,
    past_cancellations,
    running_task,
)
from anysock.errors import StreamClosed
from anysock.hints import CLEAN_UP_SECONDS, report_left

T = TypeVar("T")
_log = logging.getLogger("anysock.engines")


class _Listener(SocketListener):
    def close(self) -> None:
        if not self.closed:
            trio.lowlevel.notify_closing(self.sock)
        super().close()


class TrioEngine(PosixEngine):
    """trio's loop, through its waits for sockets.

    Its tasks live in a nursery of its own. In a run that somebody else has started, they are trio's
    system tasks: so the server that has begun them ends them, and not the scope that it began in,
    which would deny them the time to clean up.
    """

    name = "trio"
    loop = "trio"
    concurrent = True
    one_thread = True
    cancellations = CANCELLATIONS

    def __init__(self) -> None:
        super().__init__()
        self._nursery: trio.Nursery | None = None
        self._living: dict[TrioTask, None] = {}  # in the order of spawning
        self._spawned = 0

    @classmethod
    def hosted(cls) -> Self:
        """An engine for the run of trio that the caller is part of."""
        engine = cls()
        engine._token = trio.lowlevel.current_trio_token()
        return engine

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with engine_is(self):
            try:
                return trio.run(self._main, main)
            except BaseExceptionGroup as group:
                # A nursery wraps what it raises: KeyboardInterrupt, or SystemExit, of a task.
                inner: BaseException = group
                while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
                    inner = inner.exceptions[0]
                if inner is group or isinstance(inner, Exception):
                    raise
                raise inner from None

    async def _main(self, main: Coroutine[Any, Any, T]) -> T:
        failure: BaseException | None = None
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            try:
                result = await main
            except trio.Cancelled:
                raise  # a task has brought the nursery down
            except BaseException as error:  # noqa: BLE001
                failure = error
            for task in list(self._living):
                task.cancel()
            # A task that swallows its cancellation must not keep the process for ever.
            self._nursery.cancel_scope.deadline = trio.current_time() + CLEAN_UP_SECONDS
        for task in self._living:
            report_left(_log, task.name)
        if failure is not None:
            raise failure
        return result

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[_Listener]:
        return [_Listener(listening) for listening in opened]

    async def accept(self, listener: _Listener) -> Stream:
        while not listener.closed:
            try:
                sock, peer = listener.sock.accept()
                break
            except BlockingIOError:
                with contextlib.suppress(StreamClosed):
                    await wait_for_socket(trio.lowlevel.wait_readable, listener.sock)
        else:
            sock, peer = listener.next_waiting()
        accepted(sock, blocking=False)
        return TrioStream(self, sock, peer)

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        try:
            sock.connect(address)
        except BlockingIOError:
            await wait_for_socket(trio.lowlevel.wait_writable, sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code)) from None

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return TrioStream(self, sock, peer)

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return TrioDatagrams(sock)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> TrioTask:
        self._spawned += 1
        name = name or f"{getattr(coro, '__qualname__', 'task')}-{self._spawned}"
        task = TrioTask(coro, str(name))
        if self._nursery is not None:
            self._nursery.start_soon(self._run_task, task, name=task.name)
        else:
            context = contextvars.copy_context()
            trio.lowlevel.spawn_system_task(self._run_task, task, name=task.name, context=context)
        self._living[task] = None
        return task

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(func)

    async def _run_task(self, task: TrioTask) -> None:
        try:
            await task.run()
        except (KeyboardInterrupt, SystemExit):
            if self._nursery is not None:
                raise
            # trio takes what a system task raises for a fault of its own.
            _log.critical("task %r can't end a run that is not ours", task.name, exc_info=True)
        finally:
            self._living.pop(task, None)

    @property
    def left(self) -> Sequence[str]:
        return ()

    def living(self) -> Sequence[str]:
        return [task.name for task in list(self._living)]

    def current_task(self) -> TrioTask:
        return running_task()

    def event(self) -> TrioEvent:
        return TrioEvent()

    async def sleep(self, seconds: float) -> None:
        await deliver_cancel_once(trio.sleep(max(seconds, 0)))

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> TrioScope:
        return TrioScope(seconds, shield)

    def past_cancellations(self) -> contextlib.AbstractContextManager[object]:
        return past_cancellations()

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        call = functools.partial(func, *args)
        return await deliver_cancel_once(trio.to_thread.run_sync(call, abandon_on_cancel=True))

    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> contextlib.AbstractContextManager[None]:
        def deliver(func: Callable[[int], None], signum: int) -> None:
            self._token.run_sync_soon(func, signum)

        # Without a wake-up descriptor of ours: trio has set its own.
        return catch_signals(signals, deliver, first, again, wakeup=None, others=others)

    def now(self) -> float:
        return trio.current_time()


# It ends with the run.
_hosted: trio.lowlevel.RunVar[TrioEngine] = trio.lowlevel.RunVar("anysock_engine")


def engine_of_running_trio() -> TrioEngine:
    """The engine for the run of trio that the caller is part of, whoever has started it.

    So `anysock.Server` can be used in a program, or a test, that trio runs already.
    """
    try:
        return _hosted.get()
    except LookupError:
        _hosted.set(engine := TrioEngine.hosted())
        return engine
