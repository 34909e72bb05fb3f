"""What a worker of the load generator has measured."""

from __future__ import annotations

import collections
import math
from typing import Any

from anysock.bench.generator.faults import Errors
from anysock.bench.generator.latencies import Samples
from anysock.loop.kernel import Kernel
from anysock.loop.waits import Event


class Tally:
    """Counts messages and connections, their latencies and their errors.

    With `messages`, it also says how many more may be sent, and sets `over` when each of them has
    been answered, or never will be.
    """

    def __init__(self, kernel: Kernel, messages: int | None) -> None:
        self.echo = Samples()
        self.connects = Samples()
        self.first_bytes = Samples()
        #: How late the messages of an open loop were sent.
        self.late = Samples()
        self.errors = Errors()
        #: How many connections were opened.
        self.opened = 0
        #: How many messages were sent, or due, and never answered.
        self.unanswered = 0
        #: Of a one-way load.
        self.bytes_sent = self.bytes_received = 0
        #: When the first message that counts was due, in an open loop. In a closed loop all count.
        self.counts_from = -math.inf
        #: The load has come to its end.
        self.over = Event(kernel)
        self._messages = messages
        self._remaining = messages
        self._settled = 0
        self._totals: dict[str, collections.Counter[int]] = {}
        self._told: collections.Counter[str] = collections.Counter()
        self._bytes_told = (0, 0)

    def allow(self, count: int) -> int:
        """How many of `count` more messages may be sent. They count as sent."""
        if self._remaining is None:
            return count
        allowed = min(count, self._remaining)
        self._remaining -= allowed
        return allowed

    def answered(self, due: float, now: float) -> None:
        """A message that was due then is answered now. In an open loop, one of the warm-up does not
        count, even if its answer was late."""
        if due >= self.counts_from:
            self.echo.add(now - due)
        self.settle(1)

    def lose(self, count: int) -> None:
        """`count` messages will never be answered."""
        self.unanswered += count
        self.settle(count)

    def settle(self, count: int) -> None:
        """`count` messages have been answered, or never will be."""
        self._settled += count
        if self._settled == self._messages:
            self.over.set()

    def collect(self) -> dict[int, int]:
        """Add what was sampled since the last call to the totals; returns the messages' part."""
        echo = self.echo.take()
        for name, counts in (
            ("echo", echo),
            ("connect", self.connects.take()),
            ("first_byte", self.first_bytes.take()),
            ("late", self.late.take()),
        ):
            self._totals.setdefault(name, collections.Counter()).update(counts)
        return echo

    def new_errors(self) -> dict[str, int]:
        """The errors since the last call, by kind."""
        new, self._told = self.errors - self._told, collections.Counter(self.errors)
        return dict(new)

    def new_bytes(self) -> tuple[int, int]:
        """The bytes that were sent since the last call, and received."""
        now, told = (self.bytes_sent, self.bytes_received), self._bytes_told
        self._bytes_told = now
        return now[0] - told[0], now[1] - told[1]

    def start_anew(self, connected: int, *, keep_connects: bool) -> None:
        """Forget what was measured during the warm-up, when `connected` connections are open;
        except for the time that connecting took, with `keep_connects`."""
        self.collect()
        connects = self._totals["connect"]
        self._totals = {"connect": connects} if keep_connects else {}
        self.errors.clear()
        self._told.clear()
        self.bytes_sent = self.bytes_received = 0
        self._bytes_told = (0, 0)
        self.unanswered = 0
        self.opened = connected

    def result(self, seconds: float, cpu: float) -> dict[str, Any]:
        """All that was measured in `seconds`, with `cpu` seconds of CPU time: connections opened;
        errors by kind; messages never answered; latencies by bucket: of the messages, of
        connecting, of the first byte of an answer, and how late an open loop's messages were sent.
        """
        self.collect()
        return {
            "end": seconds,
            "cpu": cpu,
            "messages": sum(self._totals["echo"].values()),
            "opened": self.opened,
            "errors": self.errors,
            "unanswered": self.unanswered,
            "sent": self.bytes_sent,
            "received": self.bytes_received,
            **self._totals,
        }
