"""A conversation over UDP. Messages may be lost, late, doubled and out of order, so each has a
number."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable

from anysock.bench.generator.conversation import pattern_of
from anysock.bench.generator.faults import Errors, Fault
from anysock.engines.base import Datagrams
from anysock.errors import StreamClosed

#: A message begins with its number, in this many bytes.
NUMBER_BYTES = 8

# The number of lost messages that are remembered, so that a late answer is recognised.
_REMEMBERED = 10_000


class DatagramConversation:
    """A UDP socket that sends numbered messages, and checks every byte that comes back."""

    def __init__(self, datagrams: Datagrams, number: int, size: int, errors: Errors) -> None:
        self._datagrams = datagrams
        self._rest = pattern_of(number, size)[NUMBER_BYTES:size]
        self._errors = errors
        self._next = 0
        self._highest = -1
        self._lost: collections.OrderedDict[int, None] = collections.OrderedDict()
        #: When each message in flight was due, by its number, the oldest first.
        self.times: dict[int, float] = {}
        self.sent = math.inf
        self.fault: str | None = None

    def waiting_since(self) -> float:
        """Infinite: a lost message does not hold up the others."""
        return math.inf

    def give_up(self, kind: str) -> None:
        """Let the receiver of this conversation end with a `Fault` of that kind."""
        self.fault = kind
        self._datagrams.close()

    def send(self, count: int, due: float) -> None:
        """Send `count` messages, which were due at `due`."""
        for _ in range(count):
            number = self._next
            self._next += 1
            self.times[number] = due
            try:
                self._datagrams.send(number.to_bytes(NUMBER_BYTES, "big") + self._rest)
            except BlockingIOError:
                self._errors["no room to send on this side"] += 1
            except OSError:
                # ICMP has refused an earlier one: the receiver gets that error, too.
                continue

    async def receive(
        self, clock: Callable[[], float], done: Callable[[float, float], None]
    ) -> None:
        """Receive until the conversation is given up, with a `Fault`.

        ``done(due, now)`` is called for each message that has come back as it was, in time.
        """
        while True:
            try:
                data = (await self._datagrams.recv()).data
            except StreamClosed:
                raise Fault(self.fault or "closed") from None
            except ConnectionRefusedError:
                self._errors["refused"] += 1
                continue
            now = clock()
            number = int.from_bytes(data[:NUMBER_BYTES], "big")
            if len(data) < NUMBER_BYTES or data[NUMBER_BYTES:] != self._rest:
                self._errors["corrupt"] += 1
            elif number in self.times:
                if number < self._highest:
                    self._errors["reordered"] += 1
                self._highest = max(self._highest, number)
                done(self.times.pop(number), now)
            elif number in self._lost:
                del self._lost[number]
                self._errors["late"] += 1
            else:
                self._errors["duplicate" if number < self._next else "corrupt"] += 1

    def expire(self, before: float) -> int:
        """Give up the messages that were due before that time; returns their number."""
        lost = [number for number, due in self.times.items() if due < before]
        for number in lost:
            del self.times[number]
            self._lost[number] = None
            if len(self._lost) > _REMEMBERED:
                self._lost.popitem(last=False)
        if lost:
            self._errors["lost"] += len(lost)
        return len(lost)

    async def close(self, reset: bool = False) -> None:
        self._datagrams.close()
