"""The words between the supervisor and a worker: lines of JSON on a socket pair."""

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

# A supervisor that does not listen must not hold up a worker for ever, nor a worker the supervisor.
_SEND_SECONDS = 5.0


class Control:
    """One end. What is sent may come from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._lock = threading.Lock()
        self._begun = b""

    def send_job(self, job: object) -> None:
        """What a worker is to do: the first thing that it is told. Raises what pickle raises."""
        data = pickle.dumps(job)
        self.sock.sendall(_LENGTH.pack(len(data)) + data)

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

    def tell(self, **words: Any) -> None:
        """Send a message. To one that is gone, nothing."""
        with self._lock, contextlib.suppress(OSError):
            self.sock.sendall(json.dumps(words).encode() + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """What comes, until the other end is gone. Sleeps in between."""
        while True:
            found = self.receive()
            if found is None:
                return
            yield from found

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


def pair() -> tuple[Control, socket.socket]:
    """The supervisor's end, and what the worker inherits."""
    ours, theirs = socket.socketpair()
    ours.settimeout(_SEND_SECONDS)
    return Control(ours), theirs
