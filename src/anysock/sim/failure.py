"""A history that has failed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from anysock.sim import story
from anysock.sim.finding import Finding


class Failure(AssertionError):
    """What is wrong with a history: when, where and what, and its story.

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
        trace: Sequence[Sequence[Any]] = (),
        place: int = 0,
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
        #: The faults that had struck by then, by kind.
        self.occurrences = occurrences
        #: How the history can be repeated, in words.
        self.repeat = f"sim.World(seed={seed})"
        # All that has happened, and how much of it by then.
        self._trace = trace
        self._place = place

    @functools.cached_property
    def story(self) -> list[str]:
        """What led to it, in twenty lines at most: virtual time, host, what."""
        return story.story(self._trace[: self._place])

    @property
    def finding(self) -> Finding:
        """The same, for who compares and shrinks."""
        return Finding(self.kind, self.what, self.at, self.occurrences)

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        lines = [f"{self.what} (after {self.at:.6f} s{where}; {self.repeat})"]
        if self.story:
            lines += ["the story:", *(f"  {line}" for line in self.story)]
        return "\n".join(lines)


class Deadlock(Failure):
    """Nothing can ever happen again, or the time is over: what waits is named."""
