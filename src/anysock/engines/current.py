"""The engine under which the calling code runs, whatever program has started its loop."""

from __future__ import annotations

import sys

from anysock.engines.base import Engine
from anysock.engines.running import engine_of_thread
from anysock.errors import UsageError


def current_engine() -> Engine:
    """The engine under which the calling code runs.

    Raises `UsageError` where there is none: outside `anysock.run`, `anysock.serve`, handlers, and
    the tasks of asyncio and trio.
    """
    engine = running_engine()
    if engine is None:
        raise UsageError(
            "no engine runs here: call this inside anysock.run(), a handler, or a task of asyncio "
            "or trio"
        )
    return engine


def running_engine() -> Engine | None:
    """`current_engine`; None where there is none."""
    engine = engine_of_thread()
    if engine is not None:
        return engine
    # A loop that we have not started may run here. (Without the import, there is none.) trio comes
    # first: it may be a guest of asyncio's.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from anysock.engines.trio.engine import engine_of_running_trio

        return engine_of_running_trio()
    if "asyncio" in sys.modules:
        from anysock.engines.asyncio.hosted import engine_of_running_loop

        return engine_of_running_loop()
    return None
