"""The `blocking` engine: one client at a time, asleep in recv(2).

The first server that anyone writes. `recv` sleeps in the kernel until data is there, and
nothing else runs until it returns: the second client is connected (by the kernel, which keeps
it in the backlog) but gets nothing until the first has left.

A coroutine that never really suspends runs to its end with one ``coro.send(None)``. So these
are plain blocking calls inside ``async def``, and the same handler runs here as anywhere.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from anysock.engines.base import NOTHING, Datagrams, Listener, SockAddr, Stream
from anysock.engines.blocking.listener import BlockingListener
from anysock.engines.blocking.signals import heard_on_threads
from anysock.engines.blocking.streams import BlockingDatagrams, BlockingStream
from anysock.engines.blocking.tasks import (
    NEVER,
    BlockingEvent,
    BlockingScope,
    BlockingTask,
    run_to_its_end,
    running_task,
    task_of_main,
)
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import Backlog, ListeningSocket, accepted
from anysock.engines.running import engine_is
from anysock.errors import Cancelled
from anysock.machine.process import leave_signals_to_the_main_thread

T = TypeVar("T")


class BlockingEngine(PosixEngine):
    """Blocking sockets on one thread: one client at a time."""

    name = "blocking"
    loop = ""
    concurrent = False
    one_thread = False
    cancellations: tuple[type[BaseException], ...] = (Cancelled,)

    def __init__(self) -> None:
        super().__init__()
        self._spawned = 0
        self._main: BlockingTask | None = None
        # The threads that may work off a task that finds no other.
        self._to_spare: set[int] = set()
        # The tasks that have threads of their own.
        self._on_threads: dict[BlockingTask, None] = {}
        # What a task on another thread has raised that ends all of them.
        self._end: BaseException | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with engine_is(self), task_of_main() as self._main:
            try:
                result = contextvars.copy_context().run(run_to_its_end, main)
            except Cancelled:
                if self._end is None:
                    raise
            if self._end is not None:
                raise self._end
            return result

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[Listener]:
        for listening in opened:
            # When the listener closes, the server is about to end: none could be served in time.
            listening.backlog = Backlog.RESET
        # One listener for all: the one thread there is must wait for whichever comes first.
        return [BlockingListener(opened)] if opened else []

    async def accept(self, listener: BlockingListener) -> Stream:
        while True:
            for listening in listener.opened:
                # The sockets that listen do not block: between poll(2) and accept(2) the peer
                # may have gone again, and accept(2) would then sleep until the next one.
                try:
                    if listener.closed:
                        connection, peer = listener.next_waiting()
                    else:
                        connection, peer = listening.sock.accept()
                except BlockingIOError:
                    continue
                except OSError:
                    if not listener.closed:
                        raise
                    connection, peer = listener.next_waiting()
                listener.binding = listening.binding
                accepted(connection, blocking=True)
                return BlockingStream(self, connection, peer)
            listener.wait(running_task().time_left())

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        task = running_task()
        left = task.time_left()
        if sock.family == socket.AF_UNIX:
            # Without waiting it would fail where the backlog is full, and poll(2) does not say
            # when it no longer is. (With a deadline, Python does not wait either.)
            sock.settimeout(left)
            sock.connect(address)
            return
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            task.await_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        sock.setblocking(True)
        return BlockingStream(self, sock, peer)

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return BlockingDatagrams(sock)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> BlockingTask:
        task = self._task(coro, name)
        self._start(task)
        return task

    def spawn_background(self, coro: Coroutine[Any, Any, Any], name: object = None) -> BlockingTask:
        task = self._task(coro, name)
        self._start_thread(task)
        return task

    def call_from_thread(self, func: Callable[[], object]) -> None:
        func()

    def _task(self, coro: Coroutine[Any, Any, Any], name: object) -> BlockingTask:
        self._spawned += 1
        return BlockingTask(coro, str(name or f"task-{self._spawned}"))

    def _start(self, task: BlockingTask) -> None:
        task.run()

    def _start_thread(self, task: BlockingTask) -> None:
        # Daemons: a handler that ignores its cancellation must not keep the process from
        # ending when the drain is over.
        thread = threading.Thread(target=self._run, args=(task,), name=task.name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if threading.get_ident() in self._to_spare:
                self._run(task)
                return
            task.drop()
            raise OSError(errno.ENOMEM, "can't start a thread for it") from error

    def _run(self, task: BlockingTask) -> None:
        leave_signals_to_the_main_thread()
        with engine_is(self):
            self._on_threads[task] = None
            try:
                task.run()
            except (KeyboardInterrupt, SystemExit) as error:
                # It is not the end of this thread that is meant.
                self._end = error
                assert self._main is not None
                self._main.cancel()
            finally:
                del self._on_threads[task]

    def event(self) -> BlockingEvent:
        return BlockingEvent()

    async def sleep(self, seconds: float) -> None:
        task = running_task()
        if seconds <= 0:
            # Here, too, a cancellation is raised; and the other threads run.
            task.time_left()
            time.sleep(0)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            task.wait(min(left, NEVER))

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> BlockingScope:
        return BlockingScope(seconds, shield)

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        # It holds up only its own task, which waits anyway. What it sets stays its own, as if it
        # ran on a thread.
        return contextvars.copy_context().run(func, *args)

    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> contextlib.AbstractContextManager[None]:
        def here(func: Callable[[int], None]) -> Callable[[int], None]:
            def do(signum: int) -> None:
                with engine_is(self):
                    # Whatever is spawned there may keep the thread, if it gets none of its own.
                    self._to_spare.add(threading.get_ident())
                    try:
                        func(signum)
                    finally:
                        self._to_spare.discard(threading.get_ident())

            return do

        return heard_on_threads(
            signals, here(first), again, {signum: here(func) for signum, func in others.items()}
        )

    @property
    def left(self) -> Sequence[str]:
        return ()

    def living(self) -> Sequence[str]:
        return [task.name for task in list(self._on_threads)]

    def current_task(self) -> BlockingTask:
        return running_task()

    def now(self) -> float:
        return time.monotonic()
