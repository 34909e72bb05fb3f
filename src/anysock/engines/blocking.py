"""The `blocking` engine: one client at a time, asleep in recv(2).

The first server that anyone writes. `recv` sleeps in the kernel until data is there, and
nothing else runs until it returns: the second client is connected (by the kernel, which keeps
it in the backlog) but gets nothing until the first has left.

A coroutine that never really suspends runs to its end with one ``coro.send(None)``. So these
are plain blocking calls inside ``async def``, and the same handler runs here as anywhere.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from anysock.engines import current
from anysock.engines.base import Data, Engine, Name, SockAddr, Stream
from anysock.engines.blocking_listener import BlockingListener
from anysock.engines.blocking_tasks import (
    BlockingEvent,
    BlockingScope,
    BlockingTask,
    run_to_its_end,
    running_task,
)
from anysock.engines.signals import catch_signals, leave_signals_to_the_main_thread
from anysock.engines.sockets import (
    SocketStream,
    accepted,
    no_delay,
    not_our_loop,
    open_sockets,
)
from anysock.errors import Cancelled

T = TypeVar("T")


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
        self.check_sendable()
        self._sending = True
        rest = memoryview(data)
        try:
            while rest:
                sent = self._patiently(self._sock.send, rest)
                self.bytes_sent += sent
                rest = rest[sent:]
        except Cancelled:
            self.cut_short(len(data) - len(rest))
            raise
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


class BlockingEngine:
    """Blocking sockets on one thread: one client at a time."""

    name = "blocking"
    concurrent = False

    def __init__(self) -> None:
        self._spawned = 0

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with current.engine_is(self):
            return run_to_its_end(main)

    def listen(
        self, names: Sequence[Name], backlog: int, socket_buffer: int | None = None
    ) -> Sequence[BlockingListener]:
        # One listener for all: the one thread there is must wait for whichever comes first.
        sockets = open_sockets(names, backlog, socket_buffer)
        return [BlockingListener(sockets, keep_waiting=False)]

    async def accept(self, listener: BlockingListener) -> Stream:
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

    def scope(self, seconds: float | None = None) -> BlockingScope:
        return BlockingScope(seconds)

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        # Nobody is kept waiting who would not wait anyway.
        return func(*args)

    @contextlib.contextmanager
    def watch_signals(
        self, signals: Sequence[int], first: Callable[[int], None], again: Callable[[int], None]
    ) -> Iterator[None]:
        # The main thread may be asleep in recv(2), for a client that never speaks; and a signal
        # that arrives while it falls asleep does not even run its handler before it wakes. So
        # what is waited for here are the bytes that the interpreter's C code writes for each
        # signal, at once and whatever the main thread does: their value is the signal's number.
        hear, tell = socket.socketpair()
        tell.setblocking(False)

        def listen_for_signals() -> None:
            leave_signals_to_the_main_thread()
            heard = 0
            while byte := hear.recv(1):
                if byte[0] in signals:
                    heard += 1
                    if heard == 1:
                        # On a thread of its own: it may take long, and the next signal may not.
                        start_thread(do_first, "first signal", byte[0])
                    else:
                        again(byte[0])

        def do_first(signum: int) -> None:
            leave_signals_to_the_main_thread()
            with current.engine_is(self):
                first(signum)

        def start_thread(target: Callable[..., None], name: str, *args: int) -> threading.Thread:
            thread = threading.Thread(target=target, args=args, name=name, daemon=True)
            thread.start()
            return thread

        thread = start_thread(listen_for_signals, "signals")
        try:
            with catch_signals(signals, _leave_to_the_thread, _leave_to_the_thread, tell):
                yield
        finally:
            tell.close()
            thread.join()
            hear.close()

    def current_task(self) -> BlockingTask:
        return running_task()

    def watch_steps(self, seconds: float) -> None:
        pass

    def observe(self, observer: object) -> None:
        raise not_our_loop(self.name)

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


def _leave_to_the_thread(_signum: int) -> None:
    """A signal handler: what is to be done is done elsewhere, see `watch_signals`."""
