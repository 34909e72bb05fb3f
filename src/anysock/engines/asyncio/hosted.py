"""Engines for asyncio loops that other programs run."""

from __future__ import annotations

import asyncio
import sys
import weakref

from anysock.engines.asyncio.engine import AsyncioEngine

_engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioEngine]
_engines = weakref.WeakKeyDictionary()


def engine_of_running_loop() -> AsyncioEngine | None:
    """An engine for the asyncio loop that the caller runs on, if it does: `uvloop` on one of
    uvloop's, else `asyncio`.

    So `anysock.Server` can be used in a program, or a test, that asyncio runs already.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    engine = _engines.get(loop)
    if engine is None:
        engine = _engines[loop] = _kind_for(loop).on(loop)
    return engine


def _kind_for(loop: asyncio.AbstractEventLoop) -> type[AsyncioEngine]:
    uvloop = sys.modules.get("uvloop")
    if uvloop is None or not isinstance(loop, uvloop.Loop):
        return AsyncioEngine
    from anysock.engines.uvloop import UvloopEngine

    return UvloopEngine
