"""Random numbers for one subject: a stream for each kind of fault and each connection or host.

`random.Random` takes 9 µs and 2.5 kB to make from a text, which is more than most connections of a
history ever draw from it; so here is a generator of one integer (Knuth's linear congruential one,
of which only the upper bits are used). What it gives is the same under every version of Python and
on every platform, which a plan that is kept in a file relies on.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import MutableSequence
from typing import Any, Final

_MASK: Final = (1 << 64) - 1

# As many opportunities as no history has.
NEVER: Final = 1 << 62


# Most names are the same in all histories: to remember them saves 4 % of a history's time.
@functools.lru_cache(4096)
def hash_of(*names: object) -> int:
    """64 bits that depend on all the `names`, and on nothing else."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Dice:
    """A stream of random numbers that begins with `seed`: see `hash_of`."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        # The multiplication tears apart what seeds that differ little have in common.
        self._state = (seed ^ (seed >> 29)) * 0xBF58476D1CE4E5B9 & _MASK

    def random(self) -> float:
        """From 0 up to, but not, 1."""
        self._state = state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return (state >> 11) * 2.0**-53

    def below(self, end: int) -> int:
        """A whole number from 0 to `end` - 1."""
        return int(self.random() * end)

    def uniform(self, least: float, most: float) -> float:
        """To the microsecond, so that no platform's last bit of a float is seen in a trace."""
        return round(least + (most - least) * self.random(), 6)

    def wide(self, least: float, most: float) -> float:
        """As often from 1 to 10 as from 10 to 100: where it is not known what size matters."""
        return round(least * math.exp(math.log(most / least) * self.random()), 6)

    def exponential(self, mean: float) -> float:
        """The time until something happens that has no memory."""
        return round(-mean * math.log(1.0 - self.random()), 6)

    def shuffle(self, things: MutableSequence[Any]) -> None:
        for last in range(len(things) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            things[last], things[other] = things[other], things[last]
