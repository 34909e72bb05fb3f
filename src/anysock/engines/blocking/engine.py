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
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from anysock.engines.base import (
    NOTHING,
    Control,
    Data,
    Datagram,
    Datagrams,
    Engine,
    Listener,
    SockAddr,
    Stream,
)
from anysock.engines.blocking.listener import BlockingListener, milliseconds
from anysock.engines.blocking.signals import heard_on_threads
from anysock.engines.blocking.tasks import (
    NEVER,
    BlockingEvent,
    BlockingScope,
    BlockingTask,
    run_to_its_end,
    running_task,
    task_of_main,
)
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.engine import PosixEngine
from anysock.engines.posix.listening import Backlog, ListeningSocket, accepted
from anysock.engines.posix.streams import (
    OPS_BEFORE_YIELD,
    SocketStream,
    second_receiver,
    second_sender,
    whole,
)
from anysock.engines.running import engine_is
from anysock.errors import Cancelled, StreamClosed
from anysock.machine.process import leave_signals_to_the_main_thread

T = TypeVar("T")

# Whether the peer, or we ourselves, have shut the socket down for receiving (poll(2)); Linux alone
# can tell.
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)

# How often a thread looks whether its stream was aborted, where nothing would wake it.
_LOOK_SECONDS = 0.25

# How long a thread leaves the others for what takes them no longer than some lines of Python.
_MOMENT_SECONDS = 0.000_1


class BlockingStream(SocketStream):
    """A `Stream` over a blocking socket: it sleeps in recv(2), and where a send has to wait for the
    peer, in poll(2)."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        # Whoever is within has them, and nobody ever waits for them.
        self._one_receives = threading.Lock()
        self._one_sends = threading.Lock()
        # How many operations more a task may do that is late for something.
        self._ops_left = OPS_BEFORE_YIELD

    @property
    def receiving(self) -> bool:
        return self._one_receives.locked()

    @property
    def sending(self) -> bool:
        return self._one_sends.locked()

    @property
    def _in_send(self) -> bool:
        return False  # see `send_eof`

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._state.check_receive()
        if not self._one_receives.acquire(blocking=False):
            raise second_receiver()
        asked = max_bytes or self._recv_size
        try:
            data = self._recv(asked)
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._one_receives.release()
        size = len(data)
        if not size or self._state.aborted:
            self._hear_who_sends()
            return self._received_nothing()
        if size == asked:
            self._grow(asked)
        self.bytes_received += size
        return data

    async def send_all(self, data: Data) -> None:
        self._state.check_send()
        rest = memoryview(data)
        # Before the next check: `abort` says that it is so, and then looks at this.
        if not self._one_sends.acquire(blocking=False):
            raise second_sender()
        try:
            self._state.check_send()
            while rest:
                sent = self._send(rest)
                self.bytes_sent += sent
                rest = rest[sent:]
        except Cancelled:
            self._state.give_up_send(len(data) - len(rest))
            raise
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._one_sends.release()

    async def send_eof(self) -> None:
        if not self._one_sends.acquire(blocking=False):
            self._state.check_send("send_eof")
            raise second_sender()
        try:
            await super().send_eof()
        finally:
            self._one_sends.release()

    def _recv(self, asked: int) -> bytes:
        """recv(2), for as long as the running task's deadlines allow."""
        task = running_task()
        if task.is_late and self._may_go_on():
            # What is there is received all the same.
            with contextlib.suppress(BlockingIOError):
                return self._sock.recv(asked, socket.MSG_DONTWAIT)
        while True:
            left = task.time_left()
            if left is None:
                return self._sock.recv(asked)
            with contextlib.suppress(BlockingIOError):
                if self._poll(select.POLLIN, left):
                    return self._sock.recv(asked, socket.MSG_DONTWAIT)

    def _hear_who_sends(self) -> None:
        """Let another thread write down why its send(2) has failed just now. The kernel tells of a
        reset once: recv(2) has told of an end of the stream then, which it is not."""
        while self._one_sends.locked() and not self.unsent and self.lost is None:
            time.sleep(_MOMENT_SECONDS)

    def _send(self, data: memoryview) -> int:
        """send(2), for as long as the running task's deadlines allow, and until an abort."""
        task = running_task()
        if task.is_late and not self._may_go_on():
            task.time_left()
        while True:
            try:
                return self._sock.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.unsent = whole(data)
                with self._engine.pauses:
                    try:
                        self._until_writable()
                    finally:
                        self.unsent = 0
                self._state.check_send()

    def _may_go_on(self) -> bool:
        """Whether the late task may do one operation more that need not wait."""
        self._ops_left -= 1
        if self._ops_left < 0:
            self._ops_left = OPS_BEFORE_YIELD
        return self._ops_left < OPS_BEFORE_YIELD

    def _until_writable(self) -> None:
        """Sleep until something can be sent, or the stream is aborted.

        In poll(2): what wakes who sleeps in send(2) is SHUT_WR alone, see `abort`. Here SHUT_RD
        does, since POLLRDHUP was asked for. Where the peer has ended its stream that is so anyway,
        and tells nothing; then it is looked for now and then.
        """
        events, most = select.POLLOUT | _POLLRDHUP, None if _POLLRDHUP else _LOOK_SECONDS
        while not self._state.aborted:
            ready = self._poll(events, running_task().time_left(), most)
            if ready & ~_POLLRDHUP:
                return
            if ready:
                events, most = select.POLLOUT, _LOOK_SECONDS

    def _wake_sender(self) -> None:
        pass  # shutting the socket down has done it, see `_until_writable`

    def _poll(self, events: int, left: float | None, most: float | None = None) -> int:
        """Sleep until something of `events` is so, or the time is over; return what is."""
        poll = select.poll()
        try:
            poll.register(self._sock, events)
        except ValueError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None  # closed
        seconds = min((each for each in (left, most) if each is not None), default=None)
        found = poll.poll(None if seconds is None else milliseconds(seconds))
        return found[0][1] if found else 0


class BlockingDatagrams(SocketDatagrams):
    """A UDP socket, for a thread that sleeps in poll(2) until something comes."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # How many threads are using the sockets. They are closed by the last of them: before, the
        # numbers of their descriptors must not become another's.
        self._users = 0
        self._lock = threading.Lock()
        self._woken, self._waker = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    async def recv(self) -> Datagram:
        self._enter()
        try:
            return await super().recv()
        finally:
            self._leave()

    def send(
        self, data: bytes, to: SockAddr | None = None, origin: tuple[Control, ...] = ()
    ) -> None:
        self._enter()
        try:
            super().send(data, to, origin)
        finally:
            self._leave()

    async def _until_readable(self) -> None:
        left = running_task().time_left()
        self._poll.poll(None if left is None else milliseconds(left))

    def _enter(self) -> None:
        with self._lock:
            if self._closed:
                raise StreamClosed("the UDP socket is closed")
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            self._release()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._waker.close()
            self._release()

    def _release(self) -> None:
        if self._closed and not self._users:
            self._sock.close()
            self._woken.close()


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

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> BlockingTask:
        task = self._task(coro, name)
        self._start(task)
        return task

    def spawn_background(
        self, coro: Coroutine[Any, Any, Any], name: str | None = None
    ) -> BlockingTask:
        task = self._task(coro, name)
        self._start_thread(task)
        return task

    def call_from_thread(self, func: Callable[[], object]) -> None:
        func()

    def _task(self, coro: Coroutine[Any, Any, Any], name: str | None) -> BlockingTask:
        self._spawned += 1
        return BlockingTask(coro, name or f"task-{self._spawned}")

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
            try:
                task.run()
            except (KeyboardInterrupt, SystemExit) as error:
                # It is not the end of this thread that is meant.
                self._end = error
                assert self._main is not None
                self._main.cancel()

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

    def scope(self, seconds: float | None = None) -> BlockingScope:
        return BlockingScope(seconds)

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
        return ()

    def current_task(self) -> BlockingTask:
        return running_task()

    def now(self) -> float:
        return time.monotonic()
