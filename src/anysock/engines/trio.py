"""The `trio` engine: trio's loop, through ``trio.lowlevel.wait_readable``.

An operation is tried; when it would block, the task waits until trio says that it is worth
another try. Trio's rules are kept inside: every task lives in one nursery, and what it raises
stays its own. Only one of them is bent: a cancelled trio scope cancels every further await
within it, while a task of ours gets its cancellation once, and may then clean up with awaits.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from anysock.engines.base import (
    NOTHING,
    Data,
    Datagrams,
    SockAddr,
    Stream,
)
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import ListeningSocket, SocketListener, accepted
from anysock.engines.posix.signals import catch_signals
from anysock.engines.posix.streams import (
    OPS_BEFORE_YIELD,
    AwaitingStream,
    whole,
)
from anysock.engines.running import engine_is
from anysock.errors import Cancelled, StreamClosed, is_only
from anysock.hints import CLEAN_UP_SECONDS, add_hint, report_failed, report_left

T = TypeVar("T")

_log = logging.getLogger("anysock.engines")


class TrioScope:
    """``async with`` block that ends early, on two of trio's scopes.

    The outer one is cancelled. Once the task has got that cancellation, the inner one is made a
    shield, so that it gets no other.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._outer = trio.CancelScope()
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
        if self._inner.shield or not self._outer.cancel_called:
            return False
        self._inner.shield = True
        return True

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

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any] | None,
        name: str,
        all_tasks: trio.CancelScope | None = None,
    ) -> None:
        self.name = name
        self.done = False
        # What ends all tasks together.
        self._all_tasks = all_tasks
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
        _running.set((trio.lowlevel.current_task(), self))
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
            elif error is not None and is_only(error, TrioEngine.cancellations):
                self._exception = Cancelled()
                if self.cancelling:
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
            if scope.deliver():
                break
        raise


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


class TrioStream(AwaitingStream):
    """A `Stream` over a non-blocking socket, for tasks of trio."""

    async def recv(self, max_bytes: int | None = None) -> bytes:
        await self._begin_receiving()
        try:
            asked = max_bytes or self._recv_size
            while True:
                self._state.check_receive()
                try:
                    data = self._sock.recv(asked)
                    break
                except BlockingIOError:
                    await self._until(trio.lowlevel.wait_readable)
                    self._ops_left = OPS_BEFORE_YIELD
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._receiving = False
        size = len(data)
        if not size:
            return self._received_nothing()
        self.bytes_received += size
        if size == asked:
            self._grow(asked)
        return data

    async def send_all(self, data: Data) -> None:
        await self._begin_sending()
        rest = memoryview(data)
        try:
            while True:
                self._state.check_send()
                try:
                    sent = self._sock.send(rest)
                except BlockingIOError:
                    sent = 0
                self.bytes_sent += sent
                rest = rest[sent:]
                if not rest:
                    return
                self.unsent = whole(data)
                with self._engine.pauses:
                    await self._until(trio.lowlevel.wait_writable)
                self._ops_left = OPS_BEFORE_YIELD
        except trio.Cancelled:
            self._state.give_up_send(len(data) - len(rest))
            raise
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._sending = False
            self.unsent = 0

    async def _until(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Wait until the socket is ready, or the stream is aborted."""
        try:
            await wait_for_socket(wait, self._sock)
        except StreamClosed:
            if self._state.closed:
                raise

    def _wake_sender(self) -> None:
        trio.lowlevel.notify_closing(self._sock)  # it is not; it wakes both

    async def _release(self) -> None:
        # Wakes who waits: trio must not be left with a descriptor that we have closed.
        trio.lowlevel.notify_closing(self._sock)
        await super()._release()


async def wait_for_socket(
    wait: Callable[[socket.socket], Awaitable[None]], sock: socket.socket
) -> None:
    """Wait until a socket is ready. Raises `StreamClosed` when it is closed meanwhile."""
    try:
        await deliver_cancel_once(wait(sock))
    except trio.ClosedResourceError:
        raise StreamClosed("closed while a task waited on it") from None


class TrioDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of trio."""

    async def _until_readable(self) -> None:
        await wait_for_socket(trio.lowlevel.wait_readable, self._sock)

    def _wake(self) -> None:
        trio.lowlevel.notify_closing(self._sock)


class _Listener(SocketListener):
    def close(self) -> None:
        if not self.closed:
            trio.lowlevel.notify_closing(self.sock)
        super().close()


class TrioEngine(PosixEngine):
    """trio's loop, through its waits for sockets."""

    name = "trio"
    loop = "trio"
    concurrent = True
    one_thread = True
    cancellations: tuple[type[BaseException], ...] = (Cancelled, trio.Cancelled)

    def __init__(self) -> None:
        super().__init__()
        self._nursery: trio.Nursery | None = None
        self._living: dict[TrioTask, None] = {}  # in the order of spawning
        self._spawned = 0

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

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> TrioTask:
        assert self._nursery is not None
        self._spawned += 1
        task = TrioTask(
            coro,
            name or f"{getattr(coro, '__qualname__', 'task')}-{self._spawned}",
            self._nursery.cancel_scope,
        )
        self._living[task] = None
        self._nursery.start_soon(self._run_task, task, name=task.name)
        return task

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        self._token.run_sync_soon(func)

    async def _run_task(self, task: TrioTask) -> None:
        try:
            await task.run()
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

    def scope(self, seconds: float | None = None) -> TrioScope:
        return TrioScope(seconds)

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
