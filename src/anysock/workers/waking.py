"""What wakes the supervisor besides its workers: signals, and calls from other threads."""

from __future__ import annotations

import collections
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

from anysock.engines.posix.signals import is_ignored

# What wakes it without a signal: no signal has that number.
_NO_SIGNAL = b"\0"

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


class WakeupPipe:
    """Signals become bytes on a socket, which can be waited for."""

    def __init__(self) -> None:
        self._wakeup: socket.socket | None = None
        self._calls: collections.deque[Callable[[], object]] = collections.deque()

    @contextlib.contextmanager
    def open(self) -> Iterator[socket.socket]:
        """The socket to wait for: signals arrive there. For the main thread only."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        # Signals that are ignored stay ignored; but the death of a worker must be noticed.
        wanted = [each for each in _SIGNALS if each == signal.SIGCHLD or not is_ignored(each)]
        previous = {signum: signal.signal(signum, lambda *_: None) for signum in wanted}
        self._wakeup = writer
        previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(previous_fd)
            for signum, handler in previous.items():
                signal.signal(signum, handler)
            reader.close()
            self._wakeup = None
            writer.close()

    def call(self, func: Callable[[], object]) -> None:
        """Let `func` be called by `empty`. May be called from any thread."""
        self._calls.append(func)
        with contextlib.suppress(OSError):  # full: then it wakes anyway
            if self._wakeup is not None:
                self._wakeup.send(_NO_SIGNAL)

    def empty(self, reader: socket.socket, on_signal: Callable[[int], None]) -> None:
        """Call `on_signal` for each signal that has come, and the functions given to `call`."""
        with contextlib.suppress(BlockingIOError):
            for signum in reader.recv(4096):
                on_signal(signum)
        while self._calls:
            self._calls.popleft()()
