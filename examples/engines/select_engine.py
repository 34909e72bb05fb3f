"""An engine of your own: Anysock's loop, asleep in select(2).

    python select_engine.py          an echo server on 127.0.0.1:8000, under this engine

select(2) is the oldest of the calls that wait for many descriptors at once. It knows none above
1023 (FD_SETSIZE), and is told all of them anew each time: the loop's work grows with the number of
clients, and not with what they say.
"""

from __future__ import annotations

import select

import anysock
from anysock.engines.nonblocking.engine import NonblockingEngine
from anysock.loop.pollers import READABLE, WRITABLE


class SelectPoller:
    """The five methods that the loop asks of a poller: `anysock.loop.pollers.Poller`."""

    def __init__(self) -> None:
        self._interests: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        self._interests[fd] = eventmask

    modify = register

    def unregister(self, fd: int, /) -> None:
        del self._interests[fd]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        interests = self._interests
        reading = [fd for fd, mask in interests.items() if mask & READABLE]
        writing = [fd for fd, mask in interests.items() if mask & WRITABLE]
        # select(2) reports a socket that has failed as ready for whatever was asked.
        readable, writable, _ = select.select(reading, writing, [], timeout)
        events = dict.fromkeys(readable, READABLE)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITABLE
        return list(events.items())

    def close(self) -> None:
        self._interests.clear()


class SelectEngine(NonblockingEngine):
    """Non-blocking sockets, and a loop that sleeps in select(2)."""

    name = "select"

    def __init__(self) -> None:
        super().__init__(SelectPoller())


def main(port: int) -> None:
    """Serve echo, until SIGINT or SIGTERM."""
    anysock.serve("echo", port=port, engine=SelectEngine())


if __name__ == "__main__":
    main(8000)
