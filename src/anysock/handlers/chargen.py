"""The Character Generator Protocol, RFC 864: characters, until the client leaves."""

from __future__ import annotations

import contextlib

from anysock.engines.current import current_engine
from anysock.errors import StreamClosed
from anysock.handlers.discard import discard
from anysock.streams.connection import Connection

# The 95 printable characters of ASCII, in a ring; a line shows 72 of them, and each line begins
# one character further on than the last: the pattern that the RFC recommends.
_RING = bytes(range(0x20, 0x7F))
_LINE = 72
_PATTERN = b"".join((_RING * 2)[start : start + _LINE] + b"\r\n" for start in range(len(_RING)))


async def chargen(connection: Connection) -> None:
    """Send the pattern over and over, until the client closes or the server drains.

    Data from the client is thrown away, as the RFC asks, where the engine can do two things at a
    time; under `blocking` it is not received.
    """
    engine = current_engine()
    listening = engine.spawn(_throw_away(connection)) if engine.concurrent else None
    try:
        while not connection.draining:
            await connection.send_all(_PATTERN)
    finally:
        if listening is not None:
            listening.cancel()


async def _throw_away(connection: Connection) -> None:
    # When the client is gone, or the connection is closed, the task that sends gets the error too,
    # and reports it to the server.
    with contextlib.suppress(OSError, StreamClosed):
        await discard(connection)
