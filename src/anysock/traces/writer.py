"""Write a trace to a file, up to a size."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anysock.errors import StartError
from anysock.traces.format import Line

#: How large a file may become, unless something else is said: about 800,000 events.
LIMIT = 64 * 2**20

# So many characters are kept before they are written.
_CHUNK = 64 * 1024

# For so many nanoseconds, at most, if there is more to write.
_KEPT = 500_000_000

# What the last line takes.
_ROOM = 100

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class TraceWriter:
    """A file that is being written. `on_full` is called once, when no more is taken.

    Raises `StartError` when the file can't be written. What goes wrong later is told to `on_full`
    as well, with the error.
    """

    def __init__(
        self,
        path: Path,
        limit: int = LIMIT,
        on_full: Callable[[OSError | None], object] = lambda _error: None,
    ) -> None:
        self._room = limit - _ROOM
        self._on_full = on_full
        self._lines: list[str] = []
        self._kept = 0
        self._flushed = 0
        # Not the loop alone writes: under `threads`, each connection has a thread.
        self._lock = threading.RLock()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise StartError(f"can't write the trace {path}: {error.strerror}") from None

    def line(self, line: Line) -> None:
        """Write a line: the head, or an event."""
        self.write(to_json(line) + "\n")

    def event(self, t: int, kind: str, **fields: Any) -> None:
        """Write an event; fields that are None are left out."""
        line = {"t": t, "e": kind}
        line.update((name, value) for name, value in fields.items() if value is not None)
        self.line(line)
        if t - self._flushed > _KEPT:
            self._flushed = t
            self.flush()

    def write(self, line: str) -> None:
        """Write a line of JSON, with its line feed."""
        with self._lock:
            if self._fd < 0:
                return
            self._lines.append(line)
            self._kept += len(line)
            if self._kept >= min(_CHUNK, self._room):
                self._flush()

    def flush(self) -> None:
        """Write what is kept."""
        with self._lock:
            if self._fd >= 0:
                self._flush()

    def close(self, t: int) -> None:
        """Write the last line, unless the file is full, and close the file. Safe to call again."""
        with self._lock:
            self.event(t, "end", why="over")
            self.flush()
            self._close()

    def _flush(self) -> None:
        data = "".join(self._lines).encode(errors="backslashreplace")
        self._lines.clear()
        self._kept = 0
        full = len(data) > self._room
        if full:
            # Whole lines.
            data = data[: data.rfind(b"\n", 0, self._room) + 1]
            data += b'{"t":%d,"e":"end","why":"full"}\n' % _last_time(data)
        failure: OSError | None = None
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            failure = error
        self._room -= len(data)
        if full or failure is not None:
            self._close()
            self._on_full(failure)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _last_time(data: bytes) -> int:
    """The time of the last line; 0: there is none."""
    lines = data.rstrip(b"\n").rsplit(b"\n", 1)
    found = json.loads(lines[-1]).get("t", 0) if lines[-1] else 0
    return int(found)
