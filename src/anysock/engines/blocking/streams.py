"""Sockets for threads that sleep in a system call until they are ready."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time

from anysock.engines.base import Control, Data, Datagram, Engine, SockAddr
from anysock.engines.blocking.listener import milliseconds
from anysock.engines.blocking.tasks import running_task
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.streams import (
    OPS_BEFORE_YIELD,
    SocketStream,
    second_receiver,
    second_sender,
    whole,
)
from anysock.errors import Cancelled, StreamClosed

# Whether the peer, or we ourselves, have shut the socket down for receiving (poll(2)); Linux alone
# can tell.
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)

# Seconds between the checks of a thread for an abort of its stream, where nothing would wake it.
_CHECK_SECONDS = 0.25

# Seconds that a thread leaves to others for work of a few lines of Python.
_MOMENT_SECONDS = 0.000_1


class BlockingStream(SocketStream):
    """A `Stream` over a blocking socket: it sleeps in recv(2), and where a send has to wait for the
    peer, in poll(2)."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        # Held by the task that is within; no task ever waits for them.
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
            data = b"" if self._state.receiving_over else self._recv(asked)
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
        """Let another thread write down why its send(2) has failed just now. The kernel reports a
        reset once: then recv(2) has reported an end of the stream, which it is not."""
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

        In poll(2): only SHUT_WR wakes a thread that sleeps in send(2), see `abort`. Here SHUT_RD
        does, since POLLRDHUP was asked for. Where the peer has ended its stream that is so anyway,
        and says nothing; then the thread checks for an abort now and then.
        """
        events, most = select.POLLOUT | _POLLRDHUP, None if _POLLRDHUP else _CHECK_SECONDS
        while not self._state.aborted:
            ready = self._poll(events, running_task().time_left(), most)
            if ready & ~_POLLRDHUP:
                return
            if ready:
                events, most = select.POLLOUT, _CHECK_SECONDS

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
