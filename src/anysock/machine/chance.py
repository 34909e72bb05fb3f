"""Chance, where no seed was given."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

# In a simulation: where chance comes from.
_stream: Callable[[], random.Random] | None = None


def fresh_seed(below: int) -> int:
    """A random seed from 0 to `below`, exclusive."""
    source = random.SystemRandom() if _stream is None else _stream()
    return source.randrange(below)


def repeatable() -> bool:
    """Whether all is to happen again in the same way, as in a simulation: what would differ from
    one time to the next, such as the time in a ticket of TLS, is left out."""
    return _stream is not None


@contextlib.contextmanager
def drawn_from(stream: Callable[[], random.Random]) -> Iterator[None]:
    """Within the block, chance comes from ``stream()``. For a simulation, which has the process to
    itself meanwhile."""
    global _stream
    before, _stream = _stream, stream
    try:
        yield
    finally:
        _stream = before
