"""The `asyncio` engine: the standard library's event loop, through its socket methods.

Each operation awaits ``loop.sock_accept``, ``loop.sock_recv`` or ``loop.sock_sendall``, as a
server written straight on asyncio's low level does. What such a server must add by hand, the
strong references to its tasks and the reports of their failures, is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import math
import os
import socket
import types
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from anysock.engines.base import (
    NOTHING,
    Data,
    Datagrams,
    Engine,
    SockAddr,
    Stream,
)
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import ListeningSocket, SocketListener, accepted
from anysock.engines.posix.signals import catch_signals
from anysock.engines.posix.streams import (
    MAX_SEND_SIZE,
    AwaitingStream,
    whole,
)
from anysock.engines.running import engine_is
from anysock.errors import Cancelled, StreamAborted
from anysock.hints import CLEAN_UP_SECONDS, add_hint, report_failed, report_left

T = TypeVar("T")

_log = logging.getLogger("anysock.engines")


class AsyncioStream(AwaitingStream):
    """A `Stream` over a non-blocking socket, for tasks of asyncio's running loop."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._loop = asyncio.get_running_loop()
        self._kept: asyncio.Future[bytes] | None = None
        # What a send waits for, while it waits for its peer.
        self._room: asyncio.Future[None] | None = None

    async def recv(self, max_bytes: int | None = None) -> bytes:
        await self._begin_receiving()
        try:
            asked = max_bytes or self._recv_size
            data = await self._kept_or_received(asked)
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._receiving = False
        size = len(data)
        if not size or self._state.aborted:
            return self._received_nothing()
        self.bytes_received += size
        if size == asked:
            self._grow(asked)
        return data

    @types.coroutine
    def _kept_or_received(self, asked: int) -> Generator[Any, Any, bytes]:
        """``loop.sock_recv``, with nothing lost when its task is cancelled.

        The loop receives first and resumes the task a turn later. Cancelled in between, asyncio
        drops what the future holds (as in cpython 153761). So the future is taken as it passes by
        here, and what it has brought is kept for the next receive: bytes, or the error.
        """
        future, self._kept = self._kept, None
        if future is None:
            receive = self._loop.sock_recv(self._sock, asked)
            try:
                future = receive.send(None)
            except StopIteration as done:
                return cast("bytes", done.value)
            try:
                yield future
            except BaseException:
                if future.done() and not future.cancelled():
                    self._kept = future
                    future.exception()  # an error, too, is kept; asyncio need not complain of it
                raise
            finally:
                receive.close()
        data = future.result()
        if len(data) > asked:
            self._kept = self._loop.create_future()
            self._kept.set_result(data[asked:])
        return data[:asked]

    async def send_all(self, data: Data) -> None:
        await self._begin_sending()
        try:
            try:
                if len(data) > MAX_SEND_SIZE:
                    data = await self._sent_but_the_last(memoryview(data))
                await self._sent(data)
            except asyncio.CancelledError:
                self._state.give_up_send(None)  # asyncio does not tell how much has gone
                raise
            except OSError as error:
                raise self._explain(error) from None
        finally:
            self._sending = False
        self.bytes_sent += len(data)

    async def _sent_but_the_last(self, data: memoryview) -> memoryview:
        """Send `data` in pieces, all but the last, which is returned."""
        while len(data) > MAX_SEND_SIZE:
            await self._sent(data[:MAX_SEND_SIZE])
            self.bytes_sent += MAX_SEND_SIZE
            data = data[MAX_SEND_SIZE:]
            await self._let_others_run()
        return data

    @types.coroutine
    def _sent(self, data: Data) -> Generator[Any, Any, None]:
        """``loop.sock_sendall``, with its wait counted if it has to."""
        self._state.check_send()  # it may have been aborted between two pieces
        send = self._loop.sock_sendall(self._sock, data)
        try:
            self._room = future = send.send(None)
        except StopIteration:
            return
        self.unsent = whole(data)
        try:
            with self._engine.pauses:
                yield future
                yield from send.__await__()
        finally:
            self._room = None
            self.unsent = 0
            send.close()

    def _wake_sender(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_exception(StreamAborted("aborted on our side"))

    async def _release(self) -> None:
        if self.receiving or self._sending:
            # asyncio must not be left with a descriptor that it watches and we have closed: the
            # number may be another's by then (uvloop 100). Shut down, or aborted, both end by
            # themselves.
            if not self._state.aborted:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
            while self.receiving or self._sending:
                await asyncio.sleep(0)
        await super()._release()


class _Listener(SocketListener):
    """A listening socket, and the task that accepts the next peer from it."""

    pending: asyncio.Task[Stream] | None = None
    #: What that task waits for, while it waits for a peer.
    accepting: asyncio.Future[tuple[socket.socket, SockAddr]] | None = None

    def close(self) -> None:
        if self.pending is None or self.pending.done():
            super().close()
        elif not self.closed:
            self.closed = True
            self._waiting = self.listening.accept_waiting()
            # Shut down, the socket stops listening, and the accept(2) that waits fails. Then
            # `AsyncioEngine._next_peer` closes it.
            if not self.listening.shut_down() and self.accepting is not None:
                # Its wait, and not the task: that may have a peer already.
                self.accepting.cancel()


class AsyncioDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of asyncio's running loop."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    async def _until_readable(self) -> None:
        # Not a datagram endpoint of asyncio's: its queue takes what comes without bound.
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._closed:
                self._loop.remove_reader(self._sock.fileno())

    def _wake(self) -> None:
        if self._waiter is not None:
            # Also when the task was cancelled, and has not run since: the number of a descriptor
            # that is closed while the loop watches it is never watched again, whosever it is then.
            self._loop.remove_reader(self._sock.fileno())
            if not self._waiter.done():
                self._waiter.set_result(None)


class AsyncioTask:
    """An asyncio task, in the words of the engine contract."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._joined = False

    def cancel(self) -> None:
        coro: Any = self._task.get_coro()
        if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
            # asyncio would throw the coroutine away before its first line, and the `finally` of its
            # first block with it. By the next turn it stands at an await.
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


class AsyncioEngine(PosixEngine):
    """asyncio's loop, through its socket methods."""

    name = "asyncio"
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

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with engine_is(self), asyncio.Runner(loop_factory=self._loop_factory) as runner:
            self._loop = runner.get_loop()
            try:
                return runner.run(main)
            finally:
                self.left = runner.run(_end_all())

    @classmethod
    def on(cls, loop: asyncio.AbstractEventLoop) -> Self:
        """An engine for a loop that runs already, and that it does not keep alive."""
        engine = cls()
        engine._loop = weakref.proxy(loop)
        return engine

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[_Listener]:
        return [_Listener(listening) for listening in opened]

    async def accept(self, listener: _Listener) -> Stream:
        # In a task of its own, which outlives a cancellation of the task that waits for it: a
        # cancelled sock_accept may lose the peer that it has just accepted (cpython 153761). So
        # that one is there for the next call.
        pending = listener.pending
        if pending is None:
            pending = listener.pending = asyncio.create_task(self._next_peer(listener))
            pending.add_done_callback(_look_at)
        await asyncio.wait((pending,))
        listener.pending = None
        return pending.result()

    async def _next_peer(self, listener: _Listener) -> Stream:
        try:
            if listener.closed:
                sock, peer = listener.next_waiting()
            else:
                sock, peer = await _accept(listener)
        except (OSError, asyncio.CancelledError):
            if not listener.closed:
                raise
            sock, peer = listener.next_waiting()
        finally:
            if listener.closed:
                listener.listening.close()
        accepted(sock, blocking=False)
        return await self._stream(sock, peer)

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return AsyncioStream(self, sock, peer)

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            # asyncio puts words of its own in the place of the reason.
            raise OSError(error.errno, os.strerror(error.errno or 0)) from None

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return AsyncioDatagrams(sock)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> AsyncioTask:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ours = AsyncioTask(task)
        task.add_done_callback(ours.report)
        return ours

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(func)

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

    def scope(self, seconds: float | None = None) -> AsyncioScope:
        return AsyncioScope(seconds)

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
        wakeup, other = socket.socketpair()
        wakeup.setblocking(False)
        other.setblocking(False)
        loop.add_reader(other, _drain, other)
        try:
            with catch_signals(signals, deliver, first, again, wakeup=wakeup, others=others):
                yield
        finally:
            loop.remove_reader(other)
            wakeup.close()
            other.close()

    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def _end_all() -> list[str]:
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


@types.coroutine
def _accept(listener: _Listener) -> Generator[Any, Any, tuple[socket.socket, SockAddr]]:
    """``loop.sock_accept``; cancelled in the turn in which it has accepted, it returns the peer."""
    accept = cast(
        "Coroutine[Any, Any, tuple[socket.socket, SockAddr]]",
        asyncio.get_running_loop().sock_accept(listener.sock),
    )
    try:
        future = accept.send(None)
    except StopIteration as done:
        return cast("tuple[socket.socket, SockAddr]", done.value)
    listener.accepting = future
    try:
        yield future
    except asyncio.CancelledError:
        if future.cancel() or future.cancelled() or future.exception() is not None:
            raise
    finally:
        listener.accepting = None
        accept.close()
    return cast("tuple[socket.socket, SockAddr]", future.result())


def _look_at(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining that an outcome was never retrieved: it is kept for later."""
    if not task.cancelled():
        task.exception()


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass


_engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioEngine]
_engines = weakref.WeakKeyDictionary()


def engine_of_running_loop() -> AsyncioEngine | None:
    """An engine for the asyncio loop that the caller runs on, if it does.

    So `anysock.Server` can be used in a program, or a test, that asyncio runs already.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return _engines.setdefault(loop, AsyncioEngine.on(loop))
