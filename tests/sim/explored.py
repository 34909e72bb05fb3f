"""Handlers that are explored in tests, by name, some of them in other processes."""

from __future__ import annotations

import os

import anysock

_WORDS = {f"word {number}" for number in range(20)}

_calls: list[int] = []


async def in_the_order_of_a_set(connection: anysock.Connection) -> None:
    async for _ in connection.lines():
        for word in _WORDS:
            await connection.send_all(word.encode())


async def as_many_as_before(connection: anysock.Connection) -> None:
    """What it answers depends on what earlier histories have left."""
    await connection.recv()
    _calls.append(1)
    await connection.send_all(b"x" * (len(_calls) % 50))


async def stops_at_three(connection: anysock.Connection) -> None:
    """The third message of a client is not answered."""
    for _ in range(2):
        await connection.send_all(await connection.recv())
    while await connection.recv():
        pass


async def answers_all_but_a_byte(connection: anysock.Connection) -> None:
    while data := await connection.recv():
        await connection.send_all(data[1:])


async def ends_the_process(connection: anysock.Connection) -> None:
    os._exit(3)
