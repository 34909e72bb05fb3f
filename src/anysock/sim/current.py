"""The world whose history runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from anysock.errors import UsageError

if TYPE_CHECKING:
    from anysock.sim.faces import AWorld

_thread = threading.local()


def current_world() -> AWorld | None:
    """The world of this thread; None: no history runs here."""
    world: AWorld | None = getattr(_thread, "world", None)
    return world


@contextlib.contextmanager
def world_is(world: AWorld) -> Iterator[None]:
    """Within the block, the history of `world` runs. Raises `UsageError` within another."""
    if current_world() is not None:
        raise UsageError("a history runs here already: one can't run within another")
    _thread.world = world
    try:
        yield
    finally:
        _thread.world = None
