"""Many histories, one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from anysock.sim import guards, runaway


@contextlib.contextmanager
def many() -> Iterator[None]:
    """A block that runs many histories: what watches over each is put in its place only once."""
    with guards.in_place(), runaway.in_place():
        yield
