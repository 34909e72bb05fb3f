"""What came back from an echo server, compared with what was sent. Bytes in, verdicts out."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from enum import Enum

# How many answered probes are remembered, so that an answer that comes twice is known.
_REMEMBERED = 1000


class Verdict(Enum):
    """What is to be said of an answer."""

    OK = "ok"
    #: Right, but its probe had been given up.
    LATE = "late"
    #: Right, but before the answer to an earlier probe.
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
    """The bytes of probe `number`: its number, and then what no other probe has in that place.

    Fewer than 8 bytes hold only the end of the number: with one byte, two probes look the same when
    they are 256 apart.
    """
    rest = bytes((number * 167 + place * 31) % 251 for place in range(min(size, 251)))
    tag = number.to_bytes(8, "big")[-min(size, 8) :]
    return (tag + rest * (size // 251 + 1))[:size]


class EchoCheck:
    """The answers on one connection, in the order in which they come.

    `sent` tells that a probe was sent, `give_up` that nobody waits for it any more; `received`
    takes whatever bytes come, however they are cut, and `ended` the end of the stream.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._received = bytearray()
        #: Probes without an answer, the oldest first; and which of them are given up.
        self._open: collections.OrderedDict[int, bool] = collections.OrderedDict()
        self._answered: collections.deque[int] = collections.deque(maxlen=_REMEMBERED)

    @property
    def open(self) -> list[int]:
        """The probes without an answer, the oldest first; those that are given up, too."""
        return list(self._open)

    def sent(self, number: int) -> bytes:
        """Probe `number` is sent: returns its bytes."""
        self._open[number] = False
        return payload_of(number, self._size)

    def give_up(self, number: int) -> None:
        """Nobody waits for the answer to `number` any more; if it comes, it is late."""
        if number in self._open:
            self._open[number] = True

    def received(self, data: bytes) -> list[Answer]:
        """The answers that `data` completes."""
        self._received += data
        answers = []
        while len(self._received) >= self._size:
            block = bytes(self._received[: self._size])
            del self._received[: self._size]
            answers.append(self._judge(block))
        return answers

    def ended(self) -> list[Answer]:
        """The stream has ended: what there is of an answer is short."""
        length = len(self._received)
        self._received.clear()
        if not length:
            return []
        number = next(iter(self._open), 0)
        self._open.pop(number, None)
        return [Answer(number, Verdict.SHORT, f"{length} of {self._size} bytes")]

    def _judge(self, block: bytes) -> Answer:
        for number, given_up in self._open.items():
            if block == payload_of(number, self._size):
                first = number == next(iter(self._open))
                del self._open[number]
                self._answered.append(number)
                if given_up:
                    return Answer(number, Verdict.LATE)
                return Answer(number, Verdict.OK if first else Verdict.REORDERED)
        for number in reversed(self._answered):
            if block == payload_of(number, self._size):
                return Answer(number, Verdict.DUPLICATE)
        if not self._open:
            return Answer(0, Verdict.CORRUPT, "nothing was asked")
        # It takes the place of the answer that is due: the next is compared with the next.
        number, _ = self._open.popitem(last=False)
        wanted = payload_of(number, self._size)
        place = next(at for at in range(self._size) if block[at] != wanted[at])
        detail = f"byte {place} is 0x{block[place]:02x}, not 0x{wanted[place]:02x}"
        return Answer(number, Verdict.CORRUPT, detail)
