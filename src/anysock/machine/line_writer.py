"""Lines, written on a thread of their own: the code that logs never waits for the log's reader.

A log that is not read, a full pipe or a terminal that was stopped with Ctrl-S, makes write(2)
sleep. On the thread of a loop, all clients would sleep with it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TextIO

from anysock.machine.process import leave_signals_to_the_main_thread, signals_wait

#: Maximum number of bytes that wait to be written: some 30,000 lines of an access log. A reader
#: that reads on loses nothing, and one that does not costs no more memory than this.
MAX_WAITING = 4 * 1024 * 1024

#: How long `LineWriter.flush` waits while nothing can be written, and in all, in seconds.
STUCK_SECONDS = 1.0
FLUSH_SECONDS = 5.0

# How long the thread waits for another line before it ends. A server at rest has none.
_LINGER_SECONDS = 0.25

# What a line costs in memory besides its bytes.
_COSTS = 64

# As much as goes into a pipe in one piece (pipe(7)): the lines of several processes that write to
# the same one don't get into each other.
_PIECE = select.PIPE_BUF


_writers: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _begin_anew() -> None:
    for writer in _writers:
        writer._begin()


os.register_at_fork(after_in_child=_begin_anew)


class LineWriter:
    """Writes lines to `stream`, in their order, while the code that hands them over goes on.

    Lines that do not fit, or can't be written, are dropped and counted. A line of its own says how
    many, as soon as one can be written: ``line_of_lost(number)`` returns it. All methods may be
    called from any thread, and from a signal handler."""

    def __init__(
        self, stream: TextIO, line_of_lost: Callable[[int], str], most: int = MAX_WAITING
    ) -> None:
        self._write, self._fd = _writes_to(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._line_of_lost = line_of_lost
        self._most = most
        #: How many lines were dropped, or could not be written.
        self.lost = 0
        self._begin()
        # A child has none of our threads; and what waits here is the parent's to write.
        _writers.add(self)

    def _begin(self) -> None:
        # Lines; numbers of those that were dropped in between; locks that `flush` waits for.
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Nothing waits while it is held. It is re-entrant, as a signal handler that wants it may
        # interrupt the code that holds it; and waits for the thread then, which so never waits for
        # it.
        self._lock = threading.RLock()
        # What was handed over, and what of it has been written, or lost: costs, in bytes.
        self._handed_over = 0
        self._done = 0
        self._dropped = 0
        # How often something was written; and how often it was when nothing more could be.
        self._progress = 0
        self._stuck_at = -1
        # The thread's own: an item that was taken too early, how many lines are lost since that
        # was last written, and whether the last line that was written has no end.
        self._following: Any = None
        self._unsaid = 0
        self._torn = False

    def put(self, text: str, *, last: bool = False) -> None:
        """Let the line `text` be written soon, or drop it; with `last`, however many wait."""
        line = self._encoded(text)
        cost = len(line) + _COSTS
        with self._lock:
            waiting = self._handed_over - self._done
            if waiting and waiting + cost > self._most and not last:
                self._dropped += 1
                self.lost += 1
                return
            self._tell_dropped()
            self._handed_over += cost
            self._queue.put(line)
        self._start()

    def flush(self, stuck: float = STUCK_SECONDS, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all is written; true if it is. For at most `seconds`, and at most `stuck`
        seconds while nothing can be written: no reader holds up the end of a process for longer."""
        if self._handed_over == self._done and not self._dropped:
            return True
        written = threading.Lock()
        written.acquire()
        with self._lock:
            self._tell_dropped()
            self._queue.put(written)
        self._start()
        end = time.monotonic() + seconds
        while True:
            progress = self._progress
            held_up = progress == self._stuck_at and not self._is_heard()
            left = 0.0 if held_up else min(stuck, end - time.monotonic())
            if written.acquire(timeout=max(left, 0.0)):
                return True
            if self._is_heard() and time.monotonic() < end:
                continue  # on a busy machine, it is our thread that has not come to it
            if progress == self._progress:
                self._stuck_at = progress  # the next flush need not wait as long again
                return False

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace") + b"\n"

    def _tell_dropped(self) -> None:
        """In their place, the number of lines that were dropped."""
        if self._dropped:
            self._queue.put(self._dropped)
            self._dropped = 0

    def _start(self) -> None:
        """Have the thread that writes."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is not None:
                return
            with signals_wait():  # no handler may wait for a thread that this is about to start
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:
                    # There is no room for one more, or the interpreter is about to end. Then it is
                    # done here, as far as that can be done at once.
                    while self._can_write_at_once() and (item := self._taken()) is not None:
                        self._do(item)
                    self._thread = None

    def _can_write_at_once(self) -> bool:
        return self._fd < 0 or self._is_heard()

    def _is_heard(self) -> bool:
        """Whether there is a descriptor, and it takes a line."""
        return self._fd >= 0 and is_heard(self._fd)

    # -- on the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        leave_signals_to_the_main_thread()
        while True:
            item = self._taken()
            if item is None and self._unsaid:
                self._write_lines([])
            if item is None:
                try:
                    item = self._queue.get(timeout=_LINGER_SECONDS)
                except queue.Empty:
                    if self._lock.acquire(blocking=False):
                        try:
                            if self._queue.empty():
                                self._thread = None
                                return
                        finally:
                            self._lock.release()
                    continue
            self._do(item)

    def _taken(self) -> Any:
        """What comes next; None when there is nothing."""
        if self._following is not None:
            item, self._following = self._following, None
            return item
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        if not self._dropped or not self._lock.acquire(blocking=False):
            return None
        try:
            dropped, self._dropped = self._dropped, 0
            return dropped or None
        finally:
            self._lock.release()

    def _do(self, item: Any) -> None:
        if isinstance(item, int):
            self._unsaid += item
        elif isinstance(item, bytes):
            self._write_lines(self._piece(item))
        else:
            if self._unsaid:
                self._write_lines([])
            item.release()

    def _piece(self, line: bytes) -> list[bytes]:
        """`line`, and those after it that go into one piece with it."""
        lines, size = [line], len(line)
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if not isinstance(item, bytes) or size + len(item) > _PIECE:
                    self._following = item
                    break
                lines.append(item)
                size += len(item)
        return lines

    def _write_lines(self, lines: list[bytes]) -> None:
        lost = self._encoded(self._line_of_lost(self._unsaid)) if self._unsaid else b""
        left = memoryview((b"\n" if self._torn else b"") + lost + b"".join(lines))
        try:
            while left:
                left = left[self._write(left) :]
                self._progress += 1
                self._torn = bool(left)
            missing = 0
        except (OSError, ValueError):
            # A full disk, a reader that is gone, a stream that was closed. It is written once that
            # is over; some of them may have come through.
            missing = min(bytes(left).count(b"\n"), len(lines))
        if missing < len(lines) or not left:
            self._unsaid = 0
        self._unsaid += missing
        self.lost += missing
        self._done += sum(len(line) + _COSTS for line in lines)


def write_if_heard(text: str) -> None:
    """Write a line to standard error, if that can be done at once. For code without a
    `LineWriter`."""
    with contextlib.suppress(OSError):
        if is_heard(2):
            os.write(2, text.encode(errors="backslashreplace") + b"\n")


def is_heard(fd: int) -> bool:
    """Whether a short line can be written to `fd` without waiting (poll(2))."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))


def _writes_to(stream: TextIO) -> tuple[Callable[[memoryview], int], int]:
    """What writes to `stream`, and returns how many bytes it took; and its descriptor, or -1."""
    try:
        fd = stream.fileno()
    except (OSError, AttributeError, ValueError):  # a stream that the program has put there
        return lambda data: _write_text(stream, data), -1
    return lambda data: _write_to(fd, data), fd


def _write_to(fd: int, data: memoryview) -> int:
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            # Another process that shares the terminal or pipe may have set it non-blocking, for
            # all.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def _write_text(stream: TextIO, data: memoryview) -> int:
    stream.write(bytes(data).decode(getattr(stream, "encoding", None) or "utf-8"))
    stream.flush()
    return len(data)
