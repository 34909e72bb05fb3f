"""The ways between hosts."""

from __future__ import annotations

from collections.abc import Callable

# How long a segment is on its way between two hosts, in seconds.
LATENCY = 0.0002


class Link:
    """The way from one host to another, one way. What is sent on it arrives in order."""

    def __init__(self, source: str, to: str) -> None:
        self.source = source
        self.to = to
        #: Seconds that a segment is on its way; 0 within a host.
        self.latency = 0.0 if source == to else LATENCY
        #: Whether anything gets through.
        self.up = True
        # Who has something that could not be delivered, and is told once it can.
        self._held: dict[Callable[[], object], None] = {}

    def delay(self, size: int) -> float:
        """How long the next segment, of `size` bytes, is on its way."""
        return self.latency

    def hold(self) -> None:
        """From now on nothing gets through: what is on its way is kept, and repeated later."""
        self.up = False

    def release(self) -> None:
        """What was held goes on, in its order."""
        self.up = True
        held, self._held = self._held, {}
        for deliver in held:
            deliver()

    def when_up(self, deliver: Callable[[], object]) -> None:
        """Call `deliver()` once it is up again."""
        self._held[deliver] = None
