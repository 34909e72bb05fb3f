"""Listening where waiting means to sleep: for `blocking` and `threads`."""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import threading

from anysock.engines.base import SockAddr
from anysock.engines.sockets import Waiting, accept_waiting
from anysock.errors import ListenerClosed


class BlockingListener:
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
