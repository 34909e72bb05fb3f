"""A load by interval: what came of each second, and what went wrong in it."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

from anysock.bench.generator.latencies import Latencies, bucket_edge
from anysock.bench.generator.plan import Plan

# A cell of the heat map is so many buckets of `Samples` as one: four cells double the latency.
_BUCKETS_BITS = 5


@dataclass
class Interval:
    """What came of one interval. Times in seconds, those of its ends since the load began."""

    begin: float
    end: float
    messages: int = 0
    #: Bytes, of a one-way load.
    sent: int = 0
    received: int = 0
    #: Errors of connections, by kind.
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    #: Of the latencies: the lowest, p50 to p99.9, the highest; see `Latencies.summary`.
    echo: dict[str, float | None] = field(default_factory=dict)
    #: How many messages took how long: their numbers by cell, for `cell_edges`.
    cells: collections.Counter[int] = field(default_factory=collections.Counter)

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0

    def flows(self, plan: Plan) -> dict[str, float]:
        """Of a one-way load: bytes a second, by what happened to them."""
        moved = {"sent": (plan.sends, self.sent), "received": (plan.receives, self.received)}
        seconds = self.seconds or 1.0
        return {name: number / seconds for name, (asked, number) in moved.items() if asked}

    def to_dict(self, plan: Plan) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"begin": self.begin, "end": self.end, "errors": dict(self.errors)}
        if plan.one_way:
            return told | {f"{name}_a_second": flow for name, flow in self.flows(plan).items()}
        return told | {
            "messages": self.messages,
            "rate": self.rate,
            "bytes_a_second": self.rate * plan.size,
            "echo": self.echo,
        }


def cell_edges(cell: int) -> tuple[float, float]:
    """The shortest time, in seconds, that `cell` of an interval counts, and the longest."""
    return bucket_edge(cell << _BUCKETS_BITS), bucket_edge((cell + 1) << _BUCKETS_BITS)


class _Open:
    """An interval that goes on."""

    def __init__(self) -> None:
        self.begins: dict[int, float] = {}
        self.ends: dict[int, float] = {}
        self.messages = self.sent = self.received = 0
        self.errors: collections.Counter[str] = collections.Counter()
        self.buckets: collections.Counter[int] = collections.Counter()

    def close(self) -> Interval:
        cells: collections.Counter[int] = collections.Counter()
        for bucket, count in self.buckets.items():
            cells[bucket >> _BUCKETS_BITS] += count
        echo = Latencies.of(self.buckets).summary()
        # Each worker has a clock of its own, and they began at about the same time.
        begin, end = (sum(each.values()) / len(each) for each in (self.begins, self.ends))
        return Interval(
            begin, end, self.messages, self.sent, self.received, self.errors, echo, cells
        )


class Series:
    """Puts together what the workers of a load say, interval by interval."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: The intervals that are over, the first first.
        self.intervals: list[Interval] = []
        self._open: dict[int, _Open] = {}
        # Of each worker: up to when it has reported, and in which interval that was.
        self._at = [0.0] * plan.processes
        self._in: list[float] = [0] * plan.processes

    def add(self, worker: int, said: dict[str, Any]) -> list[Interval]:
        """Take a tick of a worker; return the intervals that are over with it."""
        since, self._at[worker] = self._at[worker], said["at"]
        # A tick may be late. It belongs to where its middle is; but what is left after the last
        # one of an interval is no interval of its own.
        number = int((since + said["at"]) / 2 / self._plan.interval)
        if said["at"] - since < self._plan.tick / 2 and since:
            number = int(self._in[worker])
        self._in[worker] = number
        found = self._open.setdefault(number, _Open())
        found.begins.setdefault(worker, since)
        found.ends[worker] = said["at"]
        found.messages += said["tick"]
        found.sent += said["sent"]
        found.received += said["received"]
        found.errors.update(said["errors"])
        found.buckets.update({int(bucket): count for bucket, count in said["echo"].items()})
        return self._close()

    def end(self, worker: int) -> list[Interval]:
        """A worker has ended; return the intervals that are over with it."""
        self._in[worker] = float("inf")
        return self._close()

    def _close(self) -> list[Interval]:
        over = [number for number in sorted(self._open) if number < min(self._in)]
        closed = [self._open.pop(number).close() for number in over]
        self.intervals += closed
        return closed
