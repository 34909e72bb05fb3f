"""A history that has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from anysock.net.printable import printable
from anysock.sim.finding import Finding

#: How many of the last lines of the story a failure tells.
LAST_LINES = 20


class Failure(AssertionError):
    """What is wrong with a history: when, where and what, and the last lines of its story.

    What was raised there, if anything was, is its `__cause__`.
    """

    def __init__(
        self,
        what: str,
        *,
        kind: str,
        seed: int,
        at: float,
        host: str = "",
        story: Sequence[str] = (),
        occurrences: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        super().__init__(what)
        #: What is wrong, in one line.
        self.what = what
        #: Short, and the same whenever this fault is met.
        self.kind = kind
        #: That of the history.
        self.seed = seed
        #: When, in virtual seconds.
        self.at = at
        #: On which host; empty: on none in particular.
        self.host = host
        #: The last lines of the story: virtual time, host, what.
        self.story = list(story)
        #: The faults that had struck by then, by kind.
        self.occurrences = occurrences
        #: How the history can be repeated, in words.
        self.repeat = f"sim.World(seed={seed})"

    @property
    def finding(self) -> Finding:
        """The same, for who compares and shrinks."""
        return Finding(self.kind, self.what, self.at, self.occurrences)

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        lines = [f"{self.what} (after {self.at:.6f} s{where}; {self.repeat})"]
        if self.story:
            lines += ["the last of the story:", *(f"  {line}" for line in self.story)]
        return "\n".join(lines)


class Deadlock(Failure):
    """Nothing can ever happen again, or the time is over: what waits is named."""


def told(trace: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a trace: virtual time, host, what, and details."""
    return [
        f"{when:11.6f}  {host:<10} {what} {printable(' '.join(map(str, details)))}".rstrip()
        for when, host, what, *details in trace
    ]
