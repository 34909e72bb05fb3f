"""File descriptors: how many more this process may open, and one that is kept back."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator


def free_descriptors() -> int | None:
    """How many descriptors this process may still open (getrlimit(2), RLIMIT_NOFILE); None: there
    is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 0
    return max(soft - used, 0)


def open_descriptors() -> dict[int, str]:
    """What this process has open, by descriptor, as the system names it; empty where it does not
    tell (proc_pid_fd(5) is Linux's)."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # that of the list itself
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def describe_descriptor(fd: int, name: str) -> str:
    """In words, what `open_descriptors` has found: of a socket, its addresses."""
    if not name.startswith("socket:"):
        return name
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        return "a socket"
    with sock:
        text = f"a socket at {sock.getsockname() or 'no address'}"
        with contextlib.suppress(OSError):
            text += f", connected to {sock.getpeername() or 'a peer without one'}"
        return text


class ReserveDescriptor:
    """A descriptor kept back, so that there is one when all others are used up.

    Reporting a shortage may need one itself: a log file that is opened anew, a module that is
    imported late. (Twisted keeps one back, too, to accept a peer with and show it the door.)
    """

    def __init__(self) -> None:
        self._fd: int | None = None
        self._closed = False
        self._take()

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Within the block one more descriptor can be opened than otherwise."""
        self._release()
        try:
            yield
        finally:
            self._take()

    def close(self) -> None:
        """Give it back for good. Safe to call again."""
        self._closed = True
        self._release()

    def _take(self) -> None:
        # Another thread may have been quicker. Then there is none until the next time. And where
        # blocks overlap, the first that ends has taken it back already.
        if not self._closed and self._fd is None:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _release(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
