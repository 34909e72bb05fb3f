"""The handler of `tests.soak.hostile`: a client's first byte says what is done with the rest."""

from __future__ import annotations

from anysock import Connection
from anysock.handlers.chargen import chargen
from anysock.handlers.discard import discard
from anysock.handlers.echo import echo


async def _lines(connection: Connection) -> None:
    async for _ in connection.lines():
        pass


async def _exactly(connection: Connection) -> None:
    while True:
        await connection.recv_exactly(1)


async def _bytes(connection: Connection) -> None:
    await connection.recv_line()
    while await connection.recv(1):
        pass


_MODES = {
    b"e": echo,
    b"d": discard,
    b"c": chargen,
    b"l": _lines,
    b"x": _exactly,
    b"b": _bytes,
}


async def chosen(connection: Connection) -> None:
    if mode := _MODES.get(await connection.recv(1)):
        await mode(connection)
