"""When a fault strikes: the decisions for one subject, each from a stream of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from anysock.engines.sim.dice import NEVER, Dice, hash_of

# What is there all of the time: it is counted, but its occurrences have no names.
_STEADY: Final = ("latency", "jitter")


class Ledger:
    """What has happened in one run."""

    __slots__ = ("fired", "happened")

    def __init__(self, fired: Counter[str]) -> None:
        #: How often each kind has changed something.
        self.fired = fired
        #: Each time: the kind, the subject, and the number among those of that subject.
        self.happened: list[tuple[str, str, int]] = []


class FaultKind:
    """A kind of fault that is on: its figures, and what it has done so far."""

    __slots__ = (
        "_ledger",
        "_met",
        "_steady",
        "healed",
        "name",
        "only",
        "parameters",
        "rareness",
        "seed",
    )

    def __init__(
        self, name: str, parameters: Mapping[str, float], seed: int, ledger: Ledger
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.seed = seed
        #: By what the logarithm of a random number becomes the distance to the next occurrence.
        self.rareness = 0.0
        probability = parameters.get("probability", 1.0)
        if probability < 1.0:
            self.rareness = 1.0 / math.log1p(-probability) if probability > 0.0 else -math.inf
        #: Whether it strikes no more.
        self.healed = False
        #: The occurrences that happen; None: all.
        self.only: Collection[str] | None = None
        self._ledger = ledger
        self._steady = name in _STEADY
        self._met = 0

    def gap(self, dice: Dice) -> int:
        """Which of the coming opportunities is the first to be taken; 1 is the next. One draw,
        however many are let pass."""
        passed = math.log(1.0 - dice.random()) * self.rareness
        return 1 + int(passed) if passed < NEVER else NEVER

    def happens(self, subject: str, number: int) -> bool:
        """Whether the occurrence `number` of those at `subject` happens, which chance has chosen.
        It counts as one that did."""
        if self.healed:
            return False
        if not self._steady:
            met = self._met
            self._met = met + 1
            only = self.only
            if only is not None and f"{subject}#{number}" not in only and f"#{met}" not in only:
                return False
            self._ledger.happened.append((self.name, subject, number))
        self._ledger.fired[self.name] += 1
        return True


class Recurrence:
    """The occurrences of one kind of fault at one subject.

    Whoever asks says what is an opportunity. The distance to the next that is taken is drawn, not
    each of them: most opportunities cost a subtraction. What depends on chance besides is drawn
    before it is looked whether the occurrence is wanted, so that leaving one out shifts no other.
    """

    __slots__ = ("_left", "_number", "dice", "kind", "subject")

    def __init__(self, kind: FaultKind, subject: str, seed: int) -> None:
        self.subject = subject
        self.dice = Dice(kind.seed ^ seed)
        self.kind = kind
        self._left = kind.gap(self.dice)
        self._number = -1

    def due(self) -> bool:
        """An opportunity: whether chance has chosen it. To be followed by `happens`, once it is
        known that it would change something."""
        self._left -= 1
        if self._left:
            return False
        self._left = self.kind.gap(self.dice)
        return True

    def happens(self) -> bool:
        """Whether what chance has chosen happens."""
        self._number += 1
        return self.kind.happens(self.subject, self._number)

    def strikes(self) -> bool:
        """An opportunity: whether it is taken."""
        self._left -= 1
        if self._left:
            return False
        self._left = self.kind.gap(self.dice)
        return self.happens()

    def cut(self, size: int) -> int:
        """An opportunity to take less than `size`, but something: how much is taken."""
        self._left -= 1
        if self._left:
            return size
        self._left = self.kind.gap(self.dice)
        part = 1 + self.dice.below(size - 1)
        return part if size > 1 and self.happens() else size

    def pause(self) -> float:
        """An opportunity for a pause: how long it is, in seconds; 0: there is none."""
        self._left -= 1
        if self._left:
            return 0.0
        self._left = self.kind.gap(self.dice)
        seconds = self.seconds("lasts")
        return seconds if self.happens() else 0.0

    def seconds(self, most: str) -> float:
        """Some microseconds, at least one, and at most what the parameter `most` says."""
        return max(self.dice.uniform(0.0, self.kind.parameters[most]), 1e-6)


class Jitter:
    """How much longer each segment of a direction is on its way."""

    __slots__ = ("_dice", "_kind", "_most", "_subject")

    def __init__(self, kind: FaultKind, subject: str, seed: int) -> None:
        self._kind = kind
        self._subject = subject
        self._dice = Dice(kind.seed ^ seed)
        self._most = kind.parameters["most"]

    def next(self) -> float:
        seconds = round(self._most * self._dice.random(), 6)
        return seconds if seconds and self._kind.happens(self._subject, 0) else 0.0


class SlowReader:
    """How a client reads that is slow: little at a time, with pauses."""

    __slots__ = ("_is_slow", "_recurrence", "bytes")

    def __init__(self, recurrence: Recurrence) -> None:
        self._recurrence = recurrence
        self._is_slow: bool | None = None
        #: How much it reads at a time, at most.
        self.bytes = 1 + recurrence.dice.below(int(recurrence.kind.parameters["bytes"]))

    def pause(self) -> float:
        """How long it pauses after it has read part of what is there; 0: it is not slow."""
        seconds = self._recurrence.seconds("lasts")
        if self._is_slow is None:
            self._is_slow = self._recurrence.happens()
        return seconds if self._is_slow and not self._recurrence.kind.healed else 0.0


# Which kinds are decided for an end of a connection; and for the end that connects, alone.
_OF_ENDS: Final = {
    "split": "split",
    "merge": "merge",
    "reset": "reset",
    "half-open": "half_open",
    "partial": "partial",
    "short": "short",
    "zero-window": "zero_window",
}
_OF_CLIENTS: Final = {name: name for name in ("refuse", "backlog", "emfile", "enfile", "enobufs")}


class Fate:
    """What is to happen to one end of a connection. A kind that is off is None, so that a look at
    an attribute is all that it costs."""

    split: Recurrence | None = None
    merge: Recurrence | None = None
    reset: Recurrence | None = None
    half_open: Recurrence | None = None
    partial: Recurrence | None = None
    short: Recurrence | None = None
    zero_window: Recurrence | None = None
    refuse: Recurrence | None = None
    backlog: Recurrence | None = None
    emfile: Recurrence | None = None
    enfile: Recurrence | None = None
    enobufs: Recurrence | None = None
    jitter: Jitter | None = None
    slow_reader: SlowReader | None = None
    #: The sizes of its buffers, in bytes; 0: as the program wants them.
    sndbuf: int = 0
    rcvbuf: int = 0
    #: Whether what is to be sent next has waited, and need not once more.
    waited = False

    def __init__(self, kinds: FatedKinds, subject: str, connects: bool) -> None:
        self.subject = subject
        seed = hash_of(subject)
        for attribute, kind in kinds.of_ends:
            setattr(self, attribute, Recurrence(kind, subject, seed))
        if connects:
            for attribute, kind in kinds.of_clients:
                setattr(self, attribute, Recurrence(kind, subject, seed))
            if kinds.slow_reader is not None:
                slow = Recurrence(kinds.slow_reader, subject, seed)
                if slow.due():
                    self.slow_reader = SlowReader(slow)
        if kinds.jitter is not None:
            self.jitter = Jitter(kinds.jitter, subject, seed)
        if kinds.small_buffers is not None:
            small = Recurrence(kinds.small_buffers, subject, seed)
            if small.due():
                least, most = (kinds.small_buffers.parameters[name] for name in ("least", "most"))
                sizes = [int(small.dice.wide(least, most)) for _ in range(2)]
                if small.happens():
                    self.sndbuf, self.rcvbuf = sizes


class FatedKinds:
    """The kinds of faults that are decided for each end of a connection, of those that are on."""

    def __init__(self, kinds: Mapping[str, FaultKind]) -> None:
        def chosen(names: Mapping[str, str]) -> Iterable[tuple[str, FaultKind]]:
            return [(names[name], kinds[name]) for name in names if name in kinds]

        self.of_ends = chosen(_OF_ENDS)
        self.of_clients = chosen(_OF_CLIENTS)
        self.jitter = kinds.get("jitter")
        self.slow_reader = kinds.get("slow-reader")
        self.small_buffers = kinds.get("small-buffers")

    def __bool__(self) -> bool:
        """Whether there is any."""
        others = (self.jitter, self.slow_reader, self.small_buffers)
        return bool(self.of_ends or self.of_clients) or any(each is not None for each in others)
