"""The engine under which the calling code runs, whatever program has started its loop."""

from __future__ import annotations

import contextlib
import sys

from anysock.engines.base import Engine
from anysock.engines.running import engine_of_thread
from anysock.errors import UsageError


def current_engine() -> Engine:
    """The engine under which the calling code runs.

    Raises `UsageError` where there is none: outside `anysock.run`, `anysock.serve` and handlers.
    """
    engine = running_engine()
    if engine is None:
        raise UsageError(f"no engine runs here: {_what_to_do()}")
    return engine


def running_engine() -> Engine | None:
    """`current_engine`; None where there is none."""
    engine = engine_of_thread()
    if engine is None and "asyncio" in sys.modules:
        # An asyncio loop that we have not started may run here. (Without the import, there is
        # none.)
        from anysock.engines.asyncio.engine import engine_of_running_loop

        engine = engine_of_running_loop()
    return engine


def _what_to_do() -> str:
    trio = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            trio.lowlevel.current_trio_token()
            return 'instead of trio.run(main), call anysock.run(main, engine="trio")'
    return "call this inside anysock.run() or a handler"
