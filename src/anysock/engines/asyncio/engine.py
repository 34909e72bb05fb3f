"""The engine `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from anysock.engines.asyncio.sock_listener import AsyncioListener, accept_peer, keep_outcome
from anysock.engines.asyncio.sock_streams import AsyncioDatagrams, AsyncioStream
from anysock.engines.asyncio.tasks import (
    AsyncioScope,
    AsyncioTask,
    end_all,
    past_cancellations,
)
from anysock.engines.base import NOTHING, Datagrams, SockAddr, Stream
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import ListeningSocket, accepted
from anysock.engines.posix.signals import catch_signals
from anysock.engines.running import engine_is
from anysock.errors import Cancelled

T = TypeVar("T")


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
                self.left = runner.run(end_all())

    @classmethod
    def on(cls, loop: asyncio.AbstractEventLoop) -> Self:
        """An engine for a loop that runs already, and that it does not keep alive."""
        engine = cls()
        engine._loop = weakref.proxy(loop)
        return engine

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[AsyncioListener]:
        return [AsyncioListener(listening) for listening in opened]

    async def accept(self, listener: AsyncioListener) -> Stream:
        # In a task of its own, which outlives a cancellation of the task that waits for it: a
        # cancelled sock_accept may lose the peer that it has just accepted (cpython 153761). So
        # that one is there for the next call.
        pending = listener.pending
        if pending is None:
            pending = listener.pending = asyncio.create_task(self._next_peer(listener))
            pending.add_done_callback(keep_outcome)
        await asyncio.wait((pending,))
        listener.pending = None
        return pending.result()

    async def _next_peer(self, listener: AsyncioListener) -> Stream:
        try:
            if listener.closed:
                sock, peer = listener.next_waiting()
            else:
                sock, peer = await accept_peer(listener)
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
