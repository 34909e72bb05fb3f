"""What to do when accept(2) fails: one policy, the same under every engine.

After trio's and Thousand Island's tables, and the manual page. Other servers have had a loop that
dies at the first EMFILE, one that spins on it, and one that fills the disk with its log.
"""

from __future__ import annotations

import enum
import errno

# Seconds until the next try: enough to cost nothing, few enough that a client hardly notices.
BACK_OFF_SECONDS = 0.1

# Seconds between two reports: a shortage lasts, and is met ten times a second.
LOG_INTERVAL_SECONDS = 1.0


class AcceptAction(enum.Enum):
    """What to do about an error of accept(2)."""

    #: A failure of one peer, or one that passes: accept the next.
    RETRY = "retry"
    #: A shortage of the machine: nothing can be accepted before something is released.
    BACK_OFF = "back off"
    #: The listening socket itself is broken: a bug, or somebody has closed it.
    STOP = "stop"


def _known(*names: str) -> frozenset[int]:
    # Not every platform has all of them.
    return frozenset(code for name in names if (code := getattr(errno, name, None)) is not None)


# The peer was gone before it was accepted (ECONNABORTED; BSD's ECONNRESET and EPROTO), a signal
# came (EINTR), the firewall refused (EPERM), or the network had a pending error for the new socket,
# which accept(2) passes on: "treat them like EAGAIN by retrying". EOPNOTSUPP is one of these; it is
# also the error of a socket that is no stream socket, which our listening sockets never are.
_RETRY = _known(
    "ECONNABORTED",
    "ECONNRESET",
    "EPROTO",
    "EINTR",
    "EAGAIN",
    "EWOULDBLOCK",
    "EPERM",
    "ENETDOWN",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENETUNREACH",
    "ETIMEDOUT",
)

# No descriptor left in this process, or in the system, or no memory.
_BACK_OFF = _known("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")


def decide(error: Exception) -> AcceptAction:
    """What to do about `error`, which accept(2) has raised; or the code around it, as with
    MemoryError, which is no reason to stop accepting for ever."""
    if not isinstance(error, OSError):
        return AcceptAction.BACK_OFF
    if error.errno in _RETRY:
        return AcceptAction.RETRY
    if error.errno in _BACK_OFF:
        return AcceptAction.BACK_OFF
    return AcceptAction.STOP


class OncePer:
    """Lets one event through in each `interval` of seconds, and counts the others."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next: float | None = None
        self._left_out = 0

    def allow(self, now: float) -> int | None:
        """How many were left out since the last that passed; None: the one at time `now` is left
        out too."""
        if self._next is not None and now < self._next:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._next = now + self._interval
        return left_out
