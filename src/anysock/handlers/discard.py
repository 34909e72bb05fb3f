"""The Discard Protocol, RFC 863: received data is thrown away."""

from __future__ import annotations

from anysock.streams.connection import Connection


async def discard(connection: Connection) -> None:
    """Receive until the client ends the stream."""
    while await connection.recv():
        pass
