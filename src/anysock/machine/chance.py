"""Chance, where no seed was given."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

_source: random.Random = random.SystemRandom()


def fresh_seed(below: int) -> int:
    """A random seed from 0 to `below`, exclusive."""
    return _source.randrange(below)


def repeatable() -> bool:
    """Whether all is to happen again in the same way, as in a simulation: what would differ from
    one time to the next, such as the time in a ticket of TLS, is left out."""
    return not isinstance(_source, random.SystemRandom)


@contextlib.contextmanager
def drawn_from(stream: random.Random) -> Iterator[None]:
    """Within the block, chance comes from `stream`. For a simulation, which has the process to
    itself meanwhile."""
    global _source
    before, _source = _source, stream
    try:
        yield
    finally:
        _source = before
