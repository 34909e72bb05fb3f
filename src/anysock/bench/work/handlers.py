"""Our handlers of each kind of work, as their users write them: programs of the same text on the
streams of others are in ``bench/peers``.

$ anysock serve anysock.bench.work.handlers:lines
"""

from __future__ import annotations

from anysock.streams.connection import Connection


async def lines(connection: Connection) -> None:
    """Send each line back, once it is complete."""
    async for line in connection.lines():
        await connection.send_all(line)
