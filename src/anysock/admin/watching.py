"""What costs something, and so is done only while somebody looks: rates, and the times of steps."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from anysock.admin.query import NOTHING, LiveQuery
from anysock.engines.base import Engine
from anysock.engines.own_loop import OwnLoop
from anysock.loop.observers import Observer
from anysock.loop.tasks import Task
from anysock.net.addresses import format_peer
from anysock.streams.connection import Connection

# Seconds for which a question keeps the watching on. The page asks once a second.
LEASE_SECONDS = 5.0

# Steps are timed in one tick of so many, since to time one costs about as much as a short step
# takes, and a fifth is enough for a percentile. (Of four ticks a second, not every fourth: what
# comes once a second would always be timed, or never.)
TICKS = 5

# A rate is of this many seconds at least, and of twice as many at most.
RATE_SECONDS = 1.0

# Upper bounds (s) of the buckets that steps are counted in, from 1 µs to 67 s, four for each
# doubling: a percentile is at most 19 % too high.
STEP_BUCKETS = tuple(1e-6 * 2 ** (number / 4) for number in range(105))


class StepTimes(Observer):
    """How many steps of the loop's tasks took how long, by `STEP_BUCKETS`. It only rises."""

    def __init__(self) -> None:
        self.counts = [0] * (len(STEP_BUCKETS) + 1)

    def task_stepped(self, task: Task, seconds: float) -> None:
        self.counts[bisect_left(STEP_BUCKETS, seconds)] += 1


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The time (s) that a `share` of the steps, of 1, did not exceed; None: there was no step."""
    left = sum(counts) * (1 - share)
    if left <= 0:
        return None
    for number in reversed(range(len(counts))):
        left -= counts[number]
        if left < 0:
            break
    return STEP_BUCKETS[min(number, len(STEP_BUCKETS) - 1)]


class Watching:
    """Counts what only a viewer wants, from one of its questions until `LEASE_SECONDS` after the
    last. `tick` is to be called on the server's engine, a few times a second; `renew` on any
    thread.

    `clock` must be readable from any thread.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = -1.0
        self._on = False
        self._ticks = 0
        self._loop: OwnLoop | None = None
        self.steps = StepTimes()
        self.rates = Rates()

    def renew(self) -> None:
        """Somebody looks."""
        self._until = self._clock() + LEASE_SECONDS

    def tick(self, engine: Engine) -> None:
        """Begin or end, if it is time to."""
        if self._clock() >= self._until:
            if self._on:
                self.stop()
            return
        self._on = True
        self._loop = getattr(engine, "own_loop", None)
        if self._loop is None:
            return
        if self._ticks % TICKS == 0:
            self._loop.observe(self.steps)
        elif self._ticks % TICKS == 1:
            self._loop.unobserve(self.steps)
        self._ticks += 1

    def stop(self) -> None:
        """End it. On the server's engine."""
        if self._loop is not None:
            self._loop.unobserve(self.steps)
        self._loop, self._on, self._ticks = None, False, 0
        self.rates = Rates()

    def step_counts(self) -> list[int] | None:
        """`StepTimes.counts`; None where the loop is not ours, or nobody looks."""
        return None if self._loop is None else list(self.steps.counts)


class Rates:
    """Bytes a second of each connection, however often, and by however many viewers, it is
    asked."""

    def __init__(self) -> None:
        # Bytes in and out by the ID of a connection, at two times.
        self._older: tuple[float, dict[str, tuple[int, int]]] | None = None
        self._newer: tuple[float, dict[str, tuple[int, int]]] | None = None

    def mark(self, now: float, connections: Sequence[tuple[Connection, float]]) -> None:
        """Remember what each connection has moved until `now`, if it is time to."""
        if self._newer is not None and now - self._newer[0] < RATE_SECONDS:
            return
        moved = {each.id: (each.bytes_received, each.bytes_sent) for each, _ in connections}
        self._older, self._newer = self._newer, (now, moved)

    def of(
        self, name: str, now: float, opened_at: float, moved: tuple[int, int]
    ) -> tuple[float | None, float | None]:
        """Bytes a second in and out; None: it is not known yet."""
        if self._older is None:
            return None, None
        at, all_before = self._older
        before = all_before.get(name, (0, 0))
        seconds = max(now - max(at, opened_at), 0.001)
        # The header of a proxy is counted until it is known to be one: no rate is below 0.
        return max(moved[0] - before[0], 0) / seconds, max(moved[1] - before[1], 0) / seconds


Describe = Callable[[Connection, float], dict[str, Any]]


def table(
    query: LiveQuery,
    connections: Sequence[tuple[Connection, float]],
    now: float,
    rates: Rates,
    describe: Describe,
) -> tuple[int, list[dict[str, Any]]]:
    """How many of `connections`, each with when it was accepted, match `query`; and the rows of
    its page and those before it, in any order. Of all others, only what decides is looked at: of
    10,000 connections, `describe` is called for those of the page.
    """
    rates.mark(now, connections)

    def rated(connection: Connection, opened_at: float) -> tuple[float | None, float | None]:
        moved = connection.bytes_received, connection.bytes_sent
        return rates.of(connection.id, now, opened_at, moved)

    keys: dict[str, Callable[[Connection, float], Any]] = {
        "seconds": lambda _connection, opened_at: -opened_at,
        "peer": lambda connection, _: format_peer(connection.peer),
        "via": lambda connection, _: via_of(connection),
        "tls": lambda connection, _: tls_of(connection),
        "waits_for": lambda connection, _: waits_for(connection),
        "bytes_in": lambda connection, _: connection.bytes_received,
        "bytes_out": lambda connection, _: connection.bytes_sent,
        "rate_in": lambda connection, opened_at: rated(connection, opened_at)[0],
        "rate_out": lambda connection, opened_at: rated(connection, opened_at)[1],
    }
    key, nothing = keys[query.sort], NOTHING.get(query.sort)
    found = [
        (connection, opened_at)
        for connection, opened_at in connections
        if not query.filter or _matches(connection, query.filter)
    ]

    def place(each: tuple[Connection, float]) -> tuple[Any, float]:
        value = key(*each)
        return nothing if value is None else value, -each[1] if query.descending else each[1]

    choose = heapq.nlargest if query.descending else heapq.nsmallest
    rows = []
    for connection, opened_at in choose(query.first + query.most, found, key=place):
        rate_in, rate_out = rated(connection, opened_at)
        more = {"rate_in": rate_in, "rate_out": rate_out}
        rows.append(describe(connection, now - opened_at) | more)
    return len(found), rows


def _matches(connection: Connection, text: str) -> bool:
    texts = (
        format_peer(connection.peer),
        via_of(connection),
        tls_of(connection),
        waits_for(connection),
        connection.id,
    )
    return any(each is not None and text in each.casefold() for each in texts)


def waits_for(connection: Connection) -> str:
    """``send`` while the peer does not read, ``receive`` while it has nothing to say, and
    otherwise ``handler``."""
    stream = connection.stream
    return "send" if stream.sending else "receive" if stream.receiving else "handler"


def via_of(connection: Connection) -> str | None:
    """The address of the proxy, as text."""
    return format_peer(connection.via) if connection.via else None


def tls_of(connection: Connection) -> str | None:
    """The version of TLS, such as ``TLSv1.3``; None: plain text, or not agreed on yet."""
    return None if connection.tls is None else connection.tls.version
