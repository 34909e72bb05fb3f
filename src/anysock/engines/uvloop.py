"""The `uvloop` engine: libuv's loop in asyncio's place. All else is `asyncio`'s."""

from __future__ import annotations

import time

import uvloop

from anysock.engines.asyncio.engine import AsyncioEngine


class UvloopEngine(AsyncioEngine):
    """uvloop's loop, and in it a poller of our own."""

    name = "uvloop"

    _loop_factory = staticmethod(uvloop.new_event_loop)

    def now(self) -> float:
        # libuv's clock is that of the beginning of its iteration, in whole milliseconds.
        return time.monotonic()
