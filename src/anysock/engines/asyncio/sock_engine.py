"""The engine `asyncio-sock`."""

from __future__ import annotations

from anysock.engines.asyncio.engine import AsyncioEngine


class AsyncioSockEngine(AsyncioEngine):
    """asyncio's loop, by its socket methods: as a server written on them by hand does it."""

    name = "asyncio-sock"
