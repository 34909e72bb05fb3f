"""The loop of the load generator, which must wake on time, to the tenth of a millisecond."""

from __future__ import annotations

import contextlib
import ctypes
import math
import select
import sys

from anysock.engines.nonblocking.engine import NonblockingEngine
from anysock.loop.pollers import Poller, default_poller

# prctl(2): how late the system may wake us, to save itself a wake-up; 50 µs by default.
_PR_SET_TIMERSLACK = 29


class PrecisePoller:
    """The poller of the platform, behind a select(2) that sleeps to the microsecond.

    epoll_wait(2) sleeps whole milliseconds, so a load of 10,000 messages a second would be sent
    ten at a time. One system call more each time that the loop sleeps.
    """

    def __init__(self) -> None:
        self._poller: Poller = default_poller()
        self.register = self._poller.register
        self.modify = self._poller.modify
        self.unregister = self._poller.unregister
        self.close = self._poller.close
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # a C library that has no prctl
                ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        fileno = getattr(self._poller, "fileno", None)
        self._fd = fileno() if fileno else None

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        if timeout and self._fd is not None and timeout != math.inf:
            select.select([self._fd], [], [], timeout)
            timeout = 0.0
        return self._poller.poll(timeout, maxevents)


class LoadEngine(NonblockingEngine):
    """Our loop, with a poller that is `precise` or the platform's."""

    name = "load"

    def __init__(self, precise: bool) -> None:
        super().__init__(PrecisePoller() if precise else default_poller())
        #: The loop, on which the load stands without an engine between.
        self.kernel = self._kernel
