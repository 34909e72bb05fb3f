"""The `polling` engine: non-blocking sockets, retried again and again.

The oldest way to serve many clients on one thread: set the sockets non-blocking, go round, and
try each. An operation that would block ends in BlockingIOError, and its task is paused, as
under the `selector` engine. But nothing says when another try is worth it, so every paused task
tries again in the next sweep, and the next. It works, it answers fast, and it burns a whole core
while all clients are silent; it is here to be measured, and to show what the one system call of
the `selector` engine is worth.
"""

from __future__ import annotations

from anysock.engines.nonblocking.engine import NonblockingEngine


class SweepPoller:
    """A poller that asks nothing: it reports every descriptor that is waited for as ready, at once.

    Most are not, of course. The task then tries, meets BlockingIOError, and pauses again.
    """

    def __init__(self) -> None:
        self._interests: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        self._interests[fd] = eventmask

    modify = register

    def unregister(self, fd: int, /) -> None:
        del self._interests[fd]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        # However long the loop may sleep, a sweep comes back at once.
        return list(self._interests.items())

    def close(self) -> None:
        self._interests.clear()


class PollingEngine(NonblockingEngine):
    """Non-blocking sockets, and a loop that tries them all, all the time."""

    name = "polling"

    def __init__(self) -> None:
        super().__init__(SweepPoller())
