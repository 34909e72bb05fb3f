"""The Time Protocol, RFC 868: the time in 4 bytes, then the end."""

from __future__ import annotations

from anysock.engines.current import current_engine
from anysock.streams.connection import Connection

# Seconds from 1900-01-01, where the protocol begins to count, to 1970-01-01 (RFC 868).
EPOCH = 2_208_988_800


async def time(connection: Connection) -> None:
    """Send the seconds since 1900-01-01 UTC, big-endian. They start again at 0 on 2036-02-07."""
    seconds = int(current_engine().time()) + EPOCH
    await connection.send_all((seconds % 2**32).to_bytes(4, "big"))
