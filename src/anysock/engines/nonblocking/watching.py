"""What non-blocking sockets need of a loop, be it ours or another's: to wait for a descriptor."""

from __future__ import annotations

from typing import Protocol

from anysock.loop.tasks import Wait


class Watched(Protocol):
    """One descriptor that tasks wait for. It stays registered with a poller between their waits."""

    fd: int

    @property
    def has_reader(self) -> bool:
        """Whether a task waits to read."""
        ...

    @property
    def has_writer(self) -> bool:
        """Whether a task waits to write."""
        ...

    def readable(self) -> Wait:
        """What a task yields to pause until it can read. A wait may end before its time. A second
        task that yields it gets `StreamBusy`."""
        ...

    def writable(self) -> Wait:
        """What a task yields to pause until it can write; as `readable`."""
        ...

    def wake_writer(self) -> None:
        """Let the task that waits to write go on, if there is one, as if it could."""
        ...

    def close(self) -> None:
        """Forget the descriptor, before it is closed. Tasks that wait for it get `StreamClosed`.
        Safe to call again."""
        ...


class Watch(Protocol):
    """What watches descriptors."""

    #: How often it has looked which descriptors are ready. Between two looks, a task that has a
    #: step has it once.
    iterations: int

    def watch(self, fd: int) -> Watched:
        """Begin to watch a descriptor."""
        ...
