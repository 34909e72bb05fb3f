"""Listening where waiting means to sleep: for `blocking` and `threads`."""

from __future__ import annotations

import collections
import math
import select
import socket
import threading

from anysock.engines.base import SockAddr
from anysock.engines.posix.listening import ListeningSocket, Waiting, has_waiting
from anysock.errors import ListenerClosed

# The longest sleep that poll(2) is asked for, in seconds: the milliseconds must fit into an int.
_MAX_SECONDS = 1_000_000.0


def milliseconds(seconds: float) -> int:
    """The timeout for poll(2), rounded up: woken early, a task would find its deadline not over."""
    return math.ceil(min(seconds, _MAX_SECONDS) * 1000)


class BlockingListener:
    """Sockets that listen, and for all of which one thread can wait, until `close`.

    A thread that sleeps in accept(2) does not notice that its socket is closed. So it sleeps in
    poll(2), on the sockets and on one end of a socket pair, whose other end `close` closes.
    """

    def __init__(self, opened: list[ListeningSocket]) -> None:
        self.opened = opened
        self.bindings = [listening.binding for listening in opened]
        self.binding = self.bindings[0]
        self._backlog: Waiting = collections.deque()
        self.addresses = [listening.address for listening in opened]
        self.closed = False
        self._lock = threading.Lock()
        self._waiting = False
        self._woken, self._wake = socket.socketpair()
        self._poll = select.poll()
        for sock in [*(listening.sock for listening in opened), self._woken]:
            self._poll.register(sock, select.POLLIN)

    def has_waiting(self) -> bool:
        with self._lock:
            if self.closed:
                return bool(self._backlog) or any(
                    listening.shortage is not None for listening in self.opened
                )
            return any(has_waiting(listening.sock) for listening in self.opened)

    def serve_backlog(self) -> None:
        for listening in self.opened:
            listening.serve_backlog()

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for listening in self.opened:
                self._backlog += listening.accept_waiting()
                # A thread that sleeps in poll(2) holds the sockets, so that they listen until it
                # wakes. Shut down, they stop at once, where that is possible.
                listening.shut_down()
                listening.close()
            self._wake.close()
            if not self._waiting:
                self._woken.close()

    def reset_backlog(self) -> None:
        with self._lock:
            for listening in self.opened:
                listening.reset_backlog()

    def next_waiting(self) -> tuple[socket.socket, SockAddr]:
        """The next peer of those that waited when the listener was closed."""
        with self._lock:
            for listening in self.opened:
                if not self._backlog:
                    self._backlog += listening.accept_rest()
            if not self._backlog:
                raise ListenerClosed
            return self._backlog.popleft()

    def wait(self, seconds: float | None) -> None:
        """Sleep until a peer may be there, or the listener is closed, or `seconds` have passed."""
        with self._lock:
            if self.closed:
                return
            self._waiting = True
        self._poll.poll(None if seconds is None else milliseconds(seconds))
        with self._lock:
            self._waiting = False
            if self.closed:
                self._woken.close()
