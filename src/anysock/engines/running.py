"""The engine that a thread runs: each thread knows its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from anysock.engines.base import Engine

_thread = threading.local()


def engine_of_thread() -> Engine | None:
    """The engine that has been started on this thread; None where none has."""
    engine: Engine | None = getattr(_thread, "engine", None)
    return engine


def become(engine: Engine | None) -> None:
    """From now on, `engine` is this thread's engine: for what runs several by turns."""
    _thread.engine = engine


@contextlib.contextmanager
def engine_is(engine: Engine) -> Iterator[None]:
    """Within the block, `engine` is this thread's engine."""
    previous: Engine | None = getattr(_thread, "engine", None)
    _thread.engine = engine
    waiting: list[Callable[[Engine], object]] = getattr(_thread, "waiting", [])
    while waiting:
        waiting.pop(0)(engine)
    try:
        yield
    finally:
        _thread.engine = previous


@contextlib.contextmanager
def told_of_next(waiting: Callable[[Engine], object]) -> Iterator[None]:
    """Within the block, `waiting` is called with the next engine that is started on this thread,
    before that runs."""
    if not hasattr(_thread, "waiting"):
        _thread.waiting = []
    _thread.waiting.append(waiting)
    try:
        yield
    finally:
        if waiting in _thread.waiting:
            _thread.waiting.remove(waiting)
