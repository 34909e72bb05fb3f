"""The Echo Protocol, RFC 862: received data is sent back."""

from __future__ import annotations

from anysock.streams.connection import Connection


async def echo(connection: Connection) -> None:
    """Send each chunk back as it comes, until the client ends the stream."""
    while data := await connection.recv():
        await connection.send_all(data)
