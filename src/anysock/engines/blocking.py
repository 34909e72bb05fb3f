"""The `blocking` engine: one client at a time, asleep in recv(2).

The first server that anyone writes. `recv` sleeps in the kernel until data is there, and
nothing else runs until it returns: the second client is connected (by the kernel, which keeps
it in the backlog) but gets nothing until the first has left.

A coroutine that never really suspends runs to its end with one ``coro.send(None)``. So these
are plain blocking calls inside ``async def``, and the same handler runs here as anywhere.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from anysock.engines import current
from anysock.engines.base import Data, Engine, Name, SockAddr, Stream
from anysock.engines.signals import catch_signals, leave_signals_to_the_main_thread
from anysock.engines.sockets import (
    SocketStream,
    Waiting,
    accept_waiting,
    accepted,
    no_delay,
    open_sockets,
)
from anysock.errors import Cancelled, ListenerClosed

T = TypeVar("T")

_log = logging.getLogger("anysock.engines")


def run_to_its_end(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coro.close()
    raise RuntimeError(
        "a handler under a blocking engine awaited something that is not Anysock's own; "
        "was it written for another event loop, such as asyncio?"
    )


class BlockingTask:
    """A coroutine that a thread runs, and the means to end its waiting from another thread.

    `cancel` reaches a task that sleeps or waits for an event at once. One that sleeps in recv(2)
    or send(2) notices when that returns: nothing wakes it but its peer, or `Stream.abort`.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any] | None, name: str) -> None:
        self.name = name
        self.done = False
        self.deadlines: list[Deadline] = []
        self._coro = coro
        self._wake = threading.Event()
        self._cancelled = False
        self._told = False
        self._finished = BlockingEvent()
        self._joined = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def run(self) -> None:
        """Run the coroutine on this thread, and keep what comes of it for `join`."""
        assert self._coro is not None
        previous, _running.task = running_task(), self
        try:
            self._result = run_to_its_end(self._coro)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001
            self._exception = error
            if not self._joined and not isinstance(error, Cancelled):
                # Told here and now; and its traceback, which holds its frames and those their
                # sockets, is not kept.
                _log.error("task %r failed", self.name, exc_info=error)
                error.__traceback__ = None
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
        self._wake.set()

    async def join(self) -> Any:
        self._joined = True
        await self._finished.wait()
        if self._exception is not None:
            raise self._exception
        return self._result

    def patience(self) -> float | None:
        """How many seconds the next operation may take, None for any number.

        Raises `Cancelled` when the task was cancelled, or when a deadline has passed.
        """
        if self._cancelled and not self._told:
            self._told = True
            raise Cancelled
        if not self.deadlines:
            return None
        nearest = min(self.deadlines, key=lambda deadline: deadline.when)
        left = nearest.when - time.monotonic()
        if left <= 0:
            raise Cancelled(nearest)
        return left

    def doze(self, seconds: float | None) -> None:
        """Sleep until `wake`, or `seconds` have passed, or the task must be told something."""
        patience = self.patience()
        if patience is not None:
            seconds = patience if seconds is None else min(seconds, patience)
        self._wake.wait(seconds)
        self._wake.clear()
        self.patience()

    def wake(self) -> None:
        self._wake.set()


class Deadline:
    """``async with`` block that ends in TimeoutError: it bounds each wait within the block."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._task = running_task()
        if self._seconds is not None:
            self.when = time.monotonic() + self._seconds
            self._task.deadlines.append(self)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._seconds is not None:
            self._task.deadlines.remove(self)
        if isinstance(error, Cancelled) and error.scope is self:
            raise TimeoutError(f"timed out after {self._seconds:g} seconds") from None


class _Running(threading.local):
    """Which task each thread runs. A thread that we did not start has one that stands for it."""

    def __init__(self) -> None:
        self.task = BlockingTask(None, threading.current_thread().name)


class BlockingEvent:
    """A flag that threads wait for."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: set[BlockingTask] = set()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for task in list(self._waiters):
            task.wake()

    async def wait(self) -> None:
        task = running_task()
        self._waiters.add(task)
        try:
            # In this order: who joins the waiters before the flag goes up is woken, and who
            # joins after sees it.
            while not self._set:
                task.doze(None)
        finally:
            self._waiters.discard(task)


_running = _Running()


def running_task() -> BlockingTask:
    """The task that the calling thread runs."""
    return _running.task


class BlockingStream(SocketStream):
    """A `Stream` over a blocking socket: recv(2) and send(2) sleep."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._receiving = False
        self._sending = False

    @property
    def receiving(self) -> bool:
        return self._receiving

    @property
    def sending(self) -> bool:
        return self._sending

    async def recv(self, max_bytes: int | None = None) -> bytes:
        asked = max_bytes or self._recv_size
        self._receiving = True
        try:
            data = self._patiently(self._sock.recv, asked)
        finally:
            self._receiving = False
        size = len(data)
        if not size:
            return self._received_nothing()
        if size == asked:
            self._grow(asked)
        self.bytes_received += size
        return data

    async def send_all(self, data: Data) -> None:
        self._sending = True
        try:
            rest = memoryview(data)
            while rest:
                sent = self._patiently(self._sock.send, rest)
                self.bytes_sent += sent
                rest = rest[sent:]
        finally:
            self._sending = False

    def _patiently(self, operation: Callable[[Any], T], argument: Any) -> T:
        """``operation(argument)``, for as long as the running task's deadlines allow."""
        while True:
            patience = running_task().patience()
            try:
                if patience != self._sock.gettimeout():
                    self._sock.settimeout(patience)
                return operation(argument)
            except TimeoutError as error:
                # Ours has no errno; the network's, ETIMEDOUT, has, and ends the connection.
                if error.errno is not None:
                    raise self._explain(error) from None
            except OSError as error:
                raise self._explain(error) from None


class _Listener:
    """Sockets that listen, all of which one thread can wait for, and stop waiting for.

    A thread that sleeps in accept(2) does not notice that its socket is closed. So it sleeps in
    poll(2), on the sockets and on one end of a socket pair, whose other end `close` closes.
    """

    def __init__(self, sockets: list[socket.socket], *, keep_waiting: bool) -> None:
        self.sockets = sockets
        self._keep_waiting = keep_waiting
        self._backlog: Waiting = collections.deque()
        self.addresses = [sock.getsockname() for sock in sockets]
        self.closed = False
        self._lock = threading.Lock()
        self._waiting = False
        self._woken, self._wake = socket.socketpair()
        self._poll = select.poll()
        for sock in [*sockets, self._woken]:
            self._poll.register(sock, select.POLLIN)

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for sock in self.sockets:
                if self._keep_waiting:
                    self._backlog += accept_waiting(sock)
                # A thread that sleeps in poll(2) holds the sockets, so that they listen until it
                # has woken; shut down, they stop at once (where they can't be, it is no matter).
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._wake.close()
            if not self._waiting:
                self._woken.close()

    def next_waiting(self) -> tuple[socket.socket, SockAddr]:
        """The next peer of those who waited when the listener was closed."""
        with self._lock:
            if not self._backlog:
                raise ListenerClosed
            return self._backlog.popleft()

    def wait(self, seconds: float | None) -> None:
        """Sleep until a peer may be there, or the listener is closed, or `seconds` have passed."""
        with self._lock:
            if self.closed:
                return
            self._waiting = True
        self._poll.poll(None if seconds is None else seconds * 1000)
        with self._lock:
            self._waiting = False
            if self.closed:
                self._woken.close()


class BlockingEngine:
    """Blocking sockets on one thread: one client at a time."""

    name = "blocking"
    concurrent = False

    def __init__(self) -> None:
        self._spawned = 0

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with current.engine_is(self):
            return run_to_its_end(main)

    def listen(self, names: Sequence[Name], backlog: int) -> Sequence[_Listener]:
        # One listener for all: the one thread there is must wait for whichever comes first.
        return [_Listener(open_sockets(names, backlog), keep_waiting=False)]

    async def accept(self, listener: _Listener) -> Stream:
        while True:
            for sock in listener.sockets:
                # The sockets that listen do not block: between poll(2) and accept(2) the peer
                # may have gone again, and accept(2) would then sleep until the next one.
                try:
                    connection, peer = sock.accept()
                except BlockingIOError:
                    continue
                except OSError:
                    if not listener.closed:
                        raise
                    connection, peer = listener.next_waiting()
                accepted(connection, blocking=True)
                return BlockingStream(self, connection, peer)
            listener.wait(running_task().patience())

    async def connect(self, family: socket.AddressFamily, address: SockAddr) -> Stream:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            no_delay(sock)
            sock.settimeout(running_task().patience())
            try:
                sock.connect(address)
            except TimeoutError as error:
                if error.errno is None:
                    running_task().patience()
                raise
            sock.settimeout(None)
            return BlockingStream(self, sock, sock.getpeername())
        except BaseException:
            sock.close()
            raise

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> BlockingTask:
        self._spawned += 1
        task = BlockingTask(coro, name or f"task-{self._spawned}")
        self._start(task)
        return task

    def _start(self, task: BlockingTask) -> None:
        task.run()

    def event(self) -> BlockingEvent:
        return BlockingEvent()

    async def sleep(self, seconds: float) -> None:
        task = running_task()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            task.doze(left)

    def timeout(self, seconds: float | None) -> Deadline:
        return Deadline(seconds)

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        # Nobody is kept waiting who would not wait anyway.
        return func(*args)

    @contextlib.contextmanager
    def watch_signals(
        self, signals: Sequence[int], first: Callable[[int], None], again: Callable[[int], None]
    ) -> Iterator[None]:
        # The main thread may be asleep in recv(2), for a client that never speaks: so what a
        # signal asks for is done on a thread of its own, which sleeps until there is one.
        caught: list[int] = []
        hear, tell = socket.socketpair()
        tell.setblocking(False)

        def listen_for_signals() -> None:
            leave_signals_to_the_main_thread()
            with current.engine_is(self):
                while hear.recv(1):
                    if caught:
                        first(caught.pop())

        def deliver(signum: int) -> None:
            caught.append(signum)
            tell.send(b"\0")

        thread = threading.Thread(target=listen_for_signals, name="signals", daemon=True)
        thread.start()
        try:
            with catch_signals(signals, deliver, again, tell):
                yield
        finally:
            tell.close()
            thread.join()
            hear.close()

    def current_task(self) -> BlockingTask:
        return running_task()

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
