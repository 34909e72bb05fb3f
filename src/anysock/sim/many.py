"""Many histories, one after another."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from anysock.sim import guards, runaway

# After so many histories their garbage is collected: fewer, and it is looked for in what still
# lives; more, and the caches of the processor are too small for it.
_TOGETHER = 4

# How many are left until then; None: it is not ours to do.
_left: int | None = None


@contextlib.contextmanager
def many() -> Iterator[None]:
    """A block that runs many histories: what watches over each is put in its place only once, and
    garbage is collected between them."""
    with guards.in_place(), runaway.in_place(), _collecting_between():
        yield


@contextlib.contextmanager
def _collecting_between() -> Iterator[None]:
    global _left
    if not gc.isenabled():
        yield
        return
    # What there is already is not looked through each time.
    gc.freeze()
    gc.disable()
    _left = _TOGETHER
    try:
        yield
    finally:
        _left = None
        gc.enable()
        gc.unfreeze()


def one_begins() -> None:
    """A history begins, and those before are over."""
    global _left
    if _left is not None:
        _left -= 1
        if not _left:
            _left = _TOGETHER
            gc.collect()
