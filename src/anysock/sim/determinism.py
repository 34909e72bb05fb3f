"""Whether the same plan gives the same history: twice in this process, and in another one that has
another hash seed and runs the histories in the opposite order."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from anysock.sim.explore import Asked, Explorer, Tally
from anysock.sim.jobs import WorkerProcess
from anysock.sim.many import many
from anysock.sim.story import Entry, written
from anysock.sim.tracing import hash_of_trace

#: Of Python's hashes, in the other process.
HASH_SEED = "4711"

#: How many histories are compared at a time.
BLOCK = 20

# How many entries are shown that come before a difference.
_BEFORE = 4

_NO_MORE = ("", f"{'':12}nothing more")

_HERE = "when it was run again in the same process"
_ELSEWHERE = "in another process, with another hash seed, and other histories before it"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first entry of two traces of the same plan that differs."""

    seed: int
    #: How the second was run, in words.
    how: str
    #: The number of the entry, and what both traces say there.
    place: int
    one: str
    other: str
    #: The last entries that both have.
    before: Sequence[str]

    def lines(self) -> Iterator[str]:
        """What is told of it."""
        yield f"seed {self.seed} differs {self.how}, at entry {self.place:,} of its trace:"
        for entry in self.before:
            yield f"  both  {entry}"
        yield f"  once  {self.one}"
        yield f"  then  {self.other}"


def differences(asked: Asked, tally: Tally) -> Generator[Difference | None, None, None]:
    """Compare all histories of `asked`; `tally` counts them. Yields each difference, and None
    whenever some more histories have been compared. It may be closed at any time."""
    explorer = Explorer(asked)
    end = asked.seed + asked.histories
    with WorkerProcess(asked, PYTHONHASHSEED=HASH_SEED) as other:
        for first in range(asked.seed, end, BLOCK):
            seeds = range(first, min(first + BLOCK, end))
            other.ask_hashes(seeds[::-1])
            traces = {}
            for seed in seeds:
                with many():
                    outcome, again = (explorer.run(asked.plan(seed)) for _ in range(2))
                tally.add(outcome)
                traces[seed] = outcome.network.trace
                if again.trace_hash != outcome.trace_hash:
                    yield compared(seed, _HERE, written(traces[seed]), written(again.network.trace))
                    del traces[seed]
            there = other.hashes()
            for seed, trace in traces.items():
                if hash_of_trace(trace) != there[seed]:
                    yield compared(seed, _ELSEWHERE, written(trace), other.trace(seed))
            yield None


def compared(seed: int, how: str, one: Sequence[Entry], other: Sequence[Entry]) -> Difference:
    """The first difference between two traces that differ."""
    pairs = enumerate(itertools.zip_longest(one, other, fillvalue=_NO_MORE))
    place, (a, b) = next(each for each in pairs if each[1][0][0] != each[1][1][0])
    # Where it can't be seen, it is in the digits that are not shown to people.
    shown = 0 if a[1] == b[1] else 1
    before = [line for _, line in one[max(place - _BEFORE, 0) : place]]
    return Difference(seed, how, place, a[shown], b[shown], before)
