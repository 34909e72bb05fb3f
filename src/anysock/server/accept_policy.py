"""What to do when accept(2) fails: one policy, the same under every engine.

After trio's and Thousand Island's tables, and the manual page. What must never happen has happened
to others: a loop that dies at the first EMFILE, one that spins on it, one that fills the disk.
"""

from __future__ import annotations

import enum
import errno

# Long enough to cost nothing, short enough that a waiting client hardly notices.
BACK_OFF_SECONDS = 0.1

# A shortage lasts, and is met ten times a second: telling it each time would be a flood.
LOG_INTERVAL_SECONDS = 1.0


class AcceptAction(enum.Enum):
    """What to do about an error of accept(2)."""

    #: One peer's trouble, or a passing one: accept the next.
    RETRY = "retry"
    #: The machine's trouble: nothing can be accepted before something is released.
    BACK_OFF = "back off"
    #: The listening socket itself is no good: a bug, or somebody has closed it.
    STOP = "stop"


def _known(*names: str) -> frozenset[int]:
    # Some platforms lack some of them.
    return frozenset(code for name in names if (code := getattr(errno, name, None)) is not None)


# The peer was gone before it was accepted (ECONNABORTED; BSD's ECONNRESET and EPROTO), a signal
# came (EINTR), the firewall said no (EPERM), or the network had pending trouble for the new
# socket, which accept(2) hands on: "treat them like EAGAIN by retrying". EOPNOTSUPP is on that
# list as well, but it is also what a socket says that is no stream socket; as our listening
# sockets are, it can only be the network's.
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

# No descriptor for it in this process, or in the system, or no memory.
_BACK_OFF = _known("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")


def decide(error: Exception) -> AcceptAction:
    """What to do about `error`, which accept(2) has raised; or which has come on the way from
    there, such as MemoryError, and is no reason to be deaf for ever."""
    if not isinstance(error, OSError):
        return AcceptAction.BACK_OFF
    if error.errno in _RETRY:
        return AcceptAction.RETRY
    if error.errno in _BACK_OFF:
        return AcceptAction.BACK_OFF
    return AcceptAction.STOP


class OncePer:
    """Lets one through in each `interval` of seconds, and counts the others."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next: float | None = None
        self._left_out = 0

    def allow(self, now: float) -> int | None:
        """At time `now`: how many were left out since the last that was allowed, or None when
        this one is left out too."""
        if self._next is not None and now < self._next:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._next = now + self._interval
        return left_out
