"""What came back from an echo server, compared with what was sent. Bytes in, verdicts out."""

from __future__ import annotations

import collections
import hashlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# How many answered probes, and how many that were given up, are remembered, so that a duplicate or
# a late answer is recognised. The memory of an endless run is bounded.
_REMEMBERED = 1000

# The number of bytes that decide to which probe a corrupt answer belongs.
_SAMPLE = 64


class Verdict(Enum):
    """What is right or wrong with an answer."""

    OK = "ok"
    #: Right, but its probe had been given up.
    LATE = "late"
    #: Right, but before the answer to an earlier probe that still waits.
    REORDERED = "reordered"
    #: The answer to a probe that was answered before.
    DUPLICATE = "duplicate"
    #: Not what was sent.
    CORRUPT = "corrupt"
    #: The stream ended within it.
    SHORT = "short"


@dataclass(frozen=True)
class Answer:
    """One answer: the probe that it belongs to, the verdict, and for bad ones what is wrong."""

    number: int
    verdict: Verdict
    detail: str = ""


def payload_of(number: int, size: int) -> bytes:
    """The bytes of probe `number`: its number, and then bytes that look random, and are others in
    each probe, so that no device in between can compress them or confuse two probes.

    Fewer than 8 bytes hold only the end of the number: with one byte, two probes look the same when
    they are 256 apart.
    """
    tag = _tag_of(number, size)
    return tag + hashlib.shake_128(number.to_bytes(8, "big")).digest(size - len(tag))


def _tag_of(number: int, size: int) -> bytes:
    return number.to_bytes(8, "big")[-min(size, 8) :]


class EchoCheck:
    """The answers on one connection, in the order in which they come.

    Call `sent` for each probe, and `give_up` when its answer is not waited for any more; `received`
    takes all bytes that come, however they are cut, and `ended` the end of the stream.

    Raises ValueError for a size of less than 1 byte, in which no answer can be seen.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a probe has at least one byte, not {size}")
        self._size = size
        self._received = bytearray()
        # Of datagrams: the latest probe that was answered.
        self._highest = -1
        # The oldest first; each probe without an answer is in one of the two.
        self._waiting: dict[int, None] = {}
        self._given_up: dict[int, None] = {}
        self._answered: collections.deque[int] = collections.deque(maxlen=_REMEMBERED)

    @property
    def open(self) -> list[int]:
        """The probes without an answer: those that are given up, as far as they are remembered,
        and those that are waited for, the oldest first of each."""
        return [*self._given_up, *self._waiting]

    def sent(self, number: int) -> bytes:
        """Probe `number` is sent: returns its bytes."""
        self._waiting[number] = None
        return payload_of(number, self._size)

    def give_up(self, number: int) -> None:
        """The answer to `number` is not waited for any more; if it comes, it is late.

        The latest 1000 of them are remembered; the answer to an older one is corrupt.
        """
        if number in self._waiting:
            del self._waiting[number]
            self._given_up[number] = None
            if len(self._given_up) > _REMEMBERED:
                del self._given_up[next(iter(self._given_up))]

    def received(self, data: bytes) -> list[Answer]:
        """The answers that `data` completes."""
        self._received += data
        answers = []
        while len(self._received) >= self._size:
            block = bytes(self._received[: self._size])
            del self._received[: self._size]
            answers.append(self._judge(block))
        return answers

    def datagram(self, data: bytes) -> Answer:
        """The answer in a datagram. Over UDP a gap is not a reorder, since the missing one may be
        lost; only an answer older than the newest seen is."""
        if len(data) != self._size:
            number = self._close_most_like(data) or 0
            detail = f"{len(data)} of {self._size} bytes"
            verdict = Verdict.SHORT if len(data) < self._size else Verdict.CORRUPT
            return Answer(number, verdict, detail)
        answer = self._judge(data)
        if answer.verdict in (Verdict.OK, Verdict.REORDERED):
            late = answer.number < self._highest
            self._highest = max(self._highest, answer.number)
            return Answer(answer.number, Verdict.REORDERED if late else Verdict.OK)
        return answer

    def ended(self) -> list[Answer]:
        """The stream has ended: what there is of an answer is short."""
        begun = bytes(self._received)
        self._received.clear()
        if not begun:
            return []
        detail = f"{len(begun)} of {self._size} bytes"
        return [Answer(self._close_most_like(begun) or 0, Verdict.SHORT, detail)]

    def _judge(self, block: bytes) -> Answer:
        number = self._find(block, self._waiting)
        if number is not None:
            first = number == next(iter(self._waiting))
            self._close(number)
            return Answer(number, Verdict.OK if first else Verdict.REORDERED)
        number = self._find(block, self._given_up)
        if number is not None:
            self._close(number)
            return Answer(number, Verdict.LATE)
        number = self._find(block, reversed(self._answered))
        if number is not None:
            return Answer(number, Verdict.DUPLICATE)
        number = self._close_most_like(block)
        if number is None:
            return Answer(0, Verdict.CORRUPT, "nothing was asked")
        wanted = payload_of(number, self._size)
        place = next(at for at in range(self._size) if block[at] != wanted[at])
        detail = f"byte {place} is 0x{block[place]:02x}, not 0x{wanted[place]:02x}"
        return Answer(number, Verdict.CORRUPT, detail)

    def _find(self, block: bytes, numbers: Iterable[int]) -> int | None:
        for number in numbers:
            # Most are told apart by the few bytes that are quick to make.
            tag = _tag_of(number, self._size)
            if block.startswith(tag) and block == payload_of(number, self._size):
                return number
        return None

    def _close(self, number: int) -> None:
        self._waiting.pop(number, None)
        self._given_up.pop(number, None)
        self._answered.append(number)

    def _close_most_like(self, block: bytes) -> int | None:
        """The probe whose answer `block` was to be; it is open no longer. None when none is.

        It is the one that most of the block agrees with; if there is no such, the one that is due.
        """
        candidates = [*self._waiting, *self._given_up]
        if not candidates:
            return None
        sample = min(self._size, _SAMPLE)
        differing = [
            sum(map(operator.ne, block, payload_of(number, sample))) for number in candidates
        ]
        fewest = min(differing)
        alike = 2 * fewest < min(sample, len(block))
        number = candidates[differing.index(fewest) if alike else 0]
        self._waiting.pop(number, None)
        self._given_up.pop(number, None)
        return number
