"""Many histories, one after another."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from anysock.sim import guards, runaway

# Once there are so many more objects, the garbage of histories is collected, be it of several of
# one client, or of one of twenty: fewer, and it is looked for in what still lives; more, and the
# caches of the processor are too small for it (after four of twenty clients, each takes 4 % more).
_ENOUGH = 1500

# Fewer objects than these are frozen when an interpreter starts: none, but some hundred in Python
# 3.12. Where there are more, the program has done it.
_FROZEN_AT_START = 1000

# After so many blocks of many, whatever there is is looked through: what was still held as one
# ended, and was frozen by the next, say.
_BLOCKS_TOGETHER = 16
_blocks = 0

# Whether it is ours to do.
_collects = False


@contextlib.contextmanager
def many() -> Iterator[None]:
    """A block that runs many histories: what watches over each is put in its place only once, and
    garbage is collected between them."""
    with guards.in_place(), runaway.in_place(), _collecting_between():
        yield


@contextlib.contextmanager
def _collecting_between() -> Iterator[None]:
    global _collects, _blocks
    if not gc.isenabled():
        yield
        return
    # What there is already is not looked through each time. (A program that has seen to that itself
    # has it stay so: to unfreeze is to unfreeze all.)
    ours = gc.get_freeze_count() < _FROZEN_AT_START
    if ours:
        _blocks += 1
        if _blocks % _BLOCKS_TOGETHER == 0:
            gc.collect()
        gc.freeze()
    gc.disable()
    _collects = True
    try:
        yield
    finally:
        _collects = False
        if ours:
            # What is left of the last ones: to freeze it would begin its count anew each time, and
            # the interpreter would never get so far as to look through it.
            gc.collect()
            gc.unfreeze()
        gc.enable()


def one_begins() -> None:
    """A history begins, and those before are over."""
    if _collects and gc.get_count()[0] >= _ENOUGH:
        gc.collect()
