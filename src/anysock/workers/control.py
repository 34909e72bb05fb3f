"""The messages between the supervisor and a worker: lines of JSON on a socket pair.

The supervisor never waits for a worker, which may be held up or stopped: the others need it. What a
worker must be told is kept until its socket takes it; what it may miss is sent now, or not at all.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("!Q")


class _End:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._begun = b""

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None when the other end is gone."""
        try:
            chunk = self.sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        if not chunk:
            return None
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        return [json.loads(line) for line in lines]


class ToWorker(_End):
    """The supervisor's end. Nothing here waits. A worker that is gone is sent nothing."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._outbox = b""

    @property
    def has_outbox(self) -> bool:
        """Whether `flush` is to be called once the socket is writable."""
        return bool(self._outbox)

    def send_job(self, job: object) -> None:
        """Tell a worker what it is to do: the first message. Raises what pickle raises."""
        data = pickle.dumps(job)
        self._say(_LENGTH.pack(len(data)) + data)

    def send(self, **words: Any) -> None:
        """Send a message, now or once the socket has room for it."""
        self._say(_line(words))

    def send_if_ready(self, **words: Any) -> bool:
        """Send a message if the socket has room for it now; otherwise return False."""
        return not self._outbox and _sent_at_once(self.sock, _line(words))

    def flush(self) -> None:
        """Send more of what has not been said."""
        self._say(b"")

    def _say(self, data: bytes) -> None:
        self._outbox += data
        try:
            while self._outbox:
                self._outbox = self._outbox[self.sock.send(self._outbox) :]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox = b""


class ToSupervisor(_End):
    """The worker's end. Messages may be sent by any thread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._lock = threading.Lock()

    def receive_job(self) -> Any:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise EOFError("the supervisor is gone")
            data += chunk
        return bytes(data)

    def send(self, **words: Any) -> None:
        """Send a message. To one that is gone, nothing."""
        with self._lock, contextlib.suppress(OSError):
            self.sock.sendall(_line(words))

    def send_if_ready(self, **words: Any) -> None:
        """Send a message if the socket has room for it now. Never waits: another thread may be
        sending something long, and the supervisor may be stopped."""
        if self._lock.acquire(blocking=False):
            try:
                _sent_at_once(self.sock, _line(words))
            finally:
                self._lock.release()

    def messages(self) -> Iterator[dict[str, Any]]:
        """The messages, as they come, until the other end is gone. Blocks in between."""
        while True:
            found = self.receive()
            if found is None:
                return
            yield from found


def pair() -> tuple[ToWorker, socket.socket]:
    """The supervisor's end, and the socket that the worker inherits."""
    ours, theirs = socket.socketpair()
    return ToWorker(ours), theirs


def _line(words: dict[str, Any]) -> bytes:
    return json.dumps(words).encode() + b"\n"


def _sent_at_once(sock: socket.socket, line: bytes) -> bool:
    """Send a short `line`. A Unix socket takes all of it, or nothing."""
    try:
        sock.send(line, socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True
