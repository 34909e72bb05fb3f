"""Non-blocking sockets under our own loop: what the `polling` and the `selector` engine share.

Both try an operation, and when the kernel says EAGAIN (BlockingIOError) the task is suspended. They
differ in when it is resumed, and that is up to the poller: see ``polling.py`` and ``selector.py``.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import errno
import functools
import os
import signal
import socket
import threading
import time
import types
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

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
from anysock.engines.posix.listening import (
    ListeningSocket,
    SocketListener,
    accepted,
)
from anysock.engines.posix.signals import catch_signals
from anysock.engines.posix.streams import OPS_BEFORE_YIELD, SocketStream, second_sender, whole
from anysock.engines.running import engine_is
from anysock.errors import Cancelled, StreamClosed
from anysock.loop.kernel import Kernel
from anysock.loop.observers import WatchedLoop
from anysock.loop.pollers import Poller
from anysock.loop.scopes import Scope
from anysock.loop.tasks import Task, Wait, suspend
from anysock.loop.waits import Descriptor, Event, ReadWait, Sleep, WriteWait
from anysock.machine.process import leave_signals_to_the_main_thread

T = TypeVar("T")


@types.coroutine
def _finished() -> Generator[Wait, None, None]:
    return
    yield


# An awaitable that is already finished: what a `send_all` hands out that sent everything. To await
# a generator that has ended calls nothing and makes nothing (11 ns, where an object whose
# `__await__` hands out an empty iterator takes 48, and a coroutine 90).
_DONE: Awaitable[None] = _finished()
with contextlib.suppress(StopIteration):
    next(_DONE)  # type: ignore[call-overload]


# On a socket, read(2) and write(2) do what recv(2) and send(2) do (socket(7)). Python's functions
# for them take their arguments without a tuple, and know nothing of timeouts: 0.1 µs a message
# less.
read = os.read
write = os.write

# In the place of the descriptor that is written to, where a send may not simply write: it need not
# ask, since it meets EBADF. Then it is looked why.
_NOT_NOW = -1
# The same, where nothing is wrong but that the others must have their turn first.
_NOT_YET = -2


class NonblockingStream(SocketStream):
    """A `Stream` over a non-blocking socket, for tasks of `kernel`."""

    __slots__ = (
        "_budget",
        "_counted_since",
        "_fd",
        "_kernel",
        "_more",
        "_readable",
        "_write_fd",
        "descriptor",
    )

    def __init__(self, engine: Engine, kernel: Kernel, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._kernel = kernel
        self.descriptor = Descriptor(kernel, sock.fileno())
        # One wait for all receives: the kernel knows it again, and has nothing to do.
        self._readable = ReadWait(self.descriptor)
        #: Whether there may be data that was not waited for, so that it is worth a try.
        self._more = True
        self._fd = self._write_fd = sock.fileno()
        # How many operations more may be done before the others must have had their turn; and the
        # turn of the loop since which they are counted.
        self._budget = OPS_BEFORE_YIELD
        self._counted_since = 0

    @property
    def receiving(self) -> bool:
        return self.descriptor.has_reader

    @property
    def sending(self) -> bool:
        return self.descriptor.has_writer

    @property
    def _in_send(self) -> bool:
        return self._write_fd == _NOT_NOW

    # `recv` and `send_all` are the path that each message takes: a hundred nanoseconds here are
    # two percent of all that a message costs, the kernel's share included.

    @types.coroutine
    def recv(self, max_bytes: int | None = None) -> Generator[Wait, None, bytes]:
        # A generator, and not an object with `__await__` and `__next__`, which would be made once
        # a stream: the interpreter resumes a generator, and takes its result, without a call and
        # without a StopIteration (0.17 against 0.39 µs a message, measured alone).
        if self._more:
            return (yield from self._recv_more(max_bytes))
        # Receiving first and pausing on EAGAIN would cost a system call and an exception for
        # each message (1.4 µs): after a short read the socket is empty, so wait first.
        yield self._readable
        asked = max_bytes or self._recv_size
        while True:
            try:
                data = read(self._fd, asked)
                break
            except BlockingIOError:
                yield self._readable
            except OSError as error:
                raise self._explain(error) from None
        size = len(data)
        self.bytes_received += size
        if 0 < size < asked:
            return data
        self._more = True
        if not size:
            return self._received_nothing()
        self._grow(asked)
        return data

    @types.coroutine
    def _recv_more(self, max_bytes: int | None) -> Generator[Wait, None, bytes]:
        """The last receive was filled, or there was none: try first."""
        asked = max_bytes or self._recv_size
        # A peer that never pauses must not keep the loop: every so often, wait for the poller
        # like the others. 64 KiB to copy take as long as an operation does besides.
        wait = not self._may_go_on(1 + (asked >> 16)) and self._fd >= 0
        while True:
            try:
                if wait:
                    # A second task must not try, but meet the first one that waits.
                    self._more = False
                    yield self._readable
                data = read(self._fd, asked)
                break
            except BlockingIOError:
                wait = True
            except OSError as error:
                self._more = True
                raise self._explain(error) from None
        size = len(data)
        self.bytes_received += size
        if 0 < size < asked:
            self._more = False
            return data
        self._more = True
        if not size:
            return self._received_nothing()
        self._grow(asked)
        return data

    def send_all(self, data: Data) -> Awaitable[None]:
        try:
            sent = write(self._write_fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if self._write_fd != _NOT_YET:
                raise self._explain(error) from None
            return self._send_in_turn(data)
        self.bytes_sent += sent
        if sent == len(data):
            self._budget -= 1
            if not (self._budget or self._may_go_on(0)):
                # The others first. But not here: what is sent can't be taken back, should the
                # task be cancelled meanwhile.
                self._write_fd = _NOT_YET
            return _DONE
        self._write_fd = _NOT_NOW
        return self._send_rest(memoryview(data)[sent:], sent)

    async def _send_in_turn(self, data: Data) -> None:
        """Let the others run, unless they have by now; then send."""
        if self._write_fd == _NOT_YET:
            self._write_fd = _NOT_NOW
            try:
                if self._counted_since == self._kernel.iterations:
                    await suspend(Sleep(self._kernel, 0))
            finally:
                self._let_send()
        await self.send_all(data)

    def _may_go_on(self, cost: int = 1) -> bool:
        """Whether one operation more is in order before the others get their turn.

        A budget for each turn of the loop would have to be renewed with each message. So the
        operations are counted whatever the turn, and the turn is asked for only when they are used
        up: if it is another than when the count began, the others have had theirs.
        """
        self._budget -= cost
        if self._budget > 0:
            return True
        self._budget = OPS_BEFORE_YIELD
        counted_since, self._counted_since = self._counted_since, self._kernel.iterations
        return counted_since != self._counted_since

    async def _send_rest(self, data: memoryview, gone: int) -> None:
        """The peer reads more slowly than we send: `gone` bytes have gone, this is the rest."""
        self.unsent = whole(data)
        try:
            with self._engine.pauses:
                while data:
                    self._state.check_send()
                    try:
                        await suspend(WriteWait(self.descriptor))
                    except Cancelled:
                        self._state.give_up_send(gone)
                        raise
                    self._state.check_send()  # it may have been woken for that
                    try:
                        sent = write(self._fd, data)
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        raise self._explain(error) from None
                    self.bytes_sent += sent
                    gone += sent
                    data = data[sent:]
        finally:
            self.unsent = 0
            self._let_send()

    def _let_send(self) -> None:
        """The one task that was sending does so no more."""
        if not (self._state.cut_short or self._state.end_sent):
            self._write_fd = self._fd  # which is none once it is aborted, or closed

    def _end_sending(self) -> None:
        self._write_fd = _NOT_NOW
        super()._end_sending()

    def abort(self) -> None:
        super().abort()
        # What has arrived is not received either.
        self._more = True
        self._fd = self._write_fd = _NOT_NOW

    def _explain(self, error: OSError) -> Exception:
        explained = super()._explain(error)
        if explained is error and error.errno == errno.EBADF:
            return second_sender()
        return explained

    def _wake_sender(self) -> None:
        self.descriptor.wake_writer()

    async def _release(self) -> None:
        self.descriptor.close()
        # Whoever comes now must meet the closed socket, and not the poller, or what the number
        # belongs to next: an error, EBADF.
        self._more = True
        self._fd = self._write_fd = _NOT_NOW
        await super()._release()


class _Listener(SocketListener):
    def __init__(self, kernel: Kernel, listening: ListeningSocket) -> None:
        super().__init__(listening)
        self.descriptor = Descriptor(kernel, self.sock.fileno())
        self.readable = ReadWait(self.descriptor)

    def close(self) -> None:
        self.descriptor.close()
        super().close()


class NonblockingDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of `kernel`."""

    def __init__(self, kernel: Kernel, sock: socket.socket) -> None:
        super().__init__(sock)
        self._descriptor = Descriptor(kernel, sock.fileno())
        self._readable = ReadWait(self._descriptor)

    async def _until_readable(self) -> None:
        await suspend(self._readable)

    def _wake(self) -> None:
        self._descriptor.close()


class NonblockingEngine(PosixEngine):
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

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        try:
            with self.own_loop.watchdog(), engine_is(self), interrupts_cancel(self._kernel):
                return self._kernel.run(main)
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[_Listener]:
        return [_Listener(self._kernel, listening) for listening in opened]

    async def accept(self, listener: _Listener) -> Stream:
        # Waiting first, even if more are in the backlog: peers mostly come one by one, and then a
        # try more costs a system call and an exception; where they come in a crowd, the poller's
        # answer costs no more than these.
        while not listener.closed:
            with contextlib.suppress(StreamClosed):
                await suspend(listener.readable)
            try:
                sock, peer = listener.sock.accept()
                break
            except BlockingIOError:
                continue
            except OSError:
                if not listener.closed:
                    raise
        else:
            sock, peer = listener.next_waiting()
        accepted(sock, blocking=False)
        return NonblockingStream(self, self._kernel, sock, peer)

    async def _connect(self, sock: socket.socket, address: SockAddr) -> None:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await self._connected(sock)
        elif code:
            # EAGAIN: a Unix socket whose backlog is full, which no poller reports.
            raise OSError(code, os.strerror(code))

    async def _stream(self, sock: socket.socket, peer: SockAddr) -> Stream:
        return NonblockingStream(self, self._kernel, sock, peer)

    async def _connected(self, sock: socket.socket) -> None:
        """Wait until the handshake that `sock` has begun is over; raise OSError if it failed."""
        descriptor = Descriptor(self._kernel, sock.fileno())
        try:
            while True:
                await suspend(WriteWait(descriptor))
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                # Under `polling` a wait may end before its time: only a peer proves it.
                with contextlib.suppress(OSError):
                    sock.getpeername()
                    return
        finally:
            descriptor.close()

    def _datagrams(self, sock: socket.socket) -> Datagrams:
        return NonblockingDatagrams(self._kernel, sock)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> Task:
        return self._kernel.spawn(coro, name)

    spawn_background = spawn

    def call_from_thread(self, func: Callable[[], object]) -> None:
        self._kernel.call_from_outside(func)

    def event(self) -> Event:
        return Event(self._kernel)

    async def sleep(self, seconds: float) -> None:
        await suspend(Sleep(self._kernel, seconds))

    def scope(self, seconds: float | None = None) -> Scope:
        return Scope(self._kernel, seconds)

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
