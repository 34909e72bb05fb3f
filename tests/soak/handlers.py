"""The handler of `tests.soak.long`: echo, that also tells how many tasks the server's loop has."""

from __future__ import annotations

from typing import Any

from anysock import Connection
from anysock.engines.current import current_engine
from anysock.handlers.echo import echo

ASKED = b"how many tasks?"


async def soaked(connection: Connection) -> None:
    first = await connection.recv()
    if first == ASKED:
        engine: Any = current_engine()
        # What asks is one of them.
        await connection.send_all(b"%d" % (len(engine._kernel.tasks) - 1))
        return
    if b"fail!" in first:
        raise RuntimeError("a handler that fails, as it was asked to")
    if first:
        await connection.send_all(first)
        await echo(connection)
