"""Handlers with a fault each, of the kinds that handlers have had. All are to be an echo: what a
client has sent comes back, in order, and then the end of the stream; but those at the end.
"""

from __future__ import annotations

import contextlib
from typing import cast

import anysock
from anysock import Connection


async def answers_a_part_twice(connection: Connection) -> None:
    """Half a line is answered at once, and again when the rest of the line has come."""
    line = b""
    while data := await connection.recv():
        line += data
        await connection.send_all(line)
        if line.endswith(b"\n"):
            line = b""


async def loses_the_last_line(connection: Connection) -> None:
    """What stands behind the last newline is never answered."""
    text = b""
    while data := await connection.recv():
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            await connection.send_all(line + b"\n")


class _Shared:
    message = b""


async def answers_with_another_message(connection: Connection) -> None:
    """Two clients share a variable, and another client may come between writing and reading it."""
    while data := await connection.recv():
        _Shared.message = data
        await anysock.sleep(0)
        await connection.send_all(_Shared.message)


async def has_one_buffer_for_all(
    connection: Connection,
    buffer: bytearray = bytearray(),  # noqa: B008
) -> None:
    """The default argument is one for all clients: the half lines of two get mixed up."""
    try:
        while data := await connection.recv():
            buffer += data
            end = buffer.rfind(b"\n") + 1
            line = bytes(buffer[:end])
            del buffer[:end]
            await connection.send_all(line)
        await connection.send_all(bytes(buffer))
    finally:
        # So that the next history begins as this one did.
        buffer.clear()


async def forgets_to_close(connection: Connection) -> None:
    """For the first data of a client, another connection is opened, and never closed."""
    asked = False
    while data := await connection.recv():
        if not asked and not connection.server.ending:
            asked = True
            await anysock.connect(connection.server.addresses[0])
        await connection.send_all(data)


async def swallows_its_cancellation(connection: Connection) -> None:
    """It takes its cancellation for something that passes, and waits for better times."""
    while True:
        try:
            data = await connection.recv()
            if not data:
                return
            await connection.send_all(data)
        except OSError:
            return
        except BaseException:  # noqa: BLE001
            await anysock.sleep(100_000)


async def answers_out_of_order(connection: Connection) -> None:
    """Each chunk is answered by a task of its own, and a long one takes longer."""
    turn = anysock.Lock()

    async def answer(data: bytes) -> None:
        await anysock.sleep(len(data) / 1e6)
        async with turn:
            await connection.send_all(data)

    async with anysock.task_group() as group:
        while data := await connection.recv():
            group.spawn(answer(data))


async def misses_a_newline(connection: Connection) -> None:
    """The search for a newline goes on one byte too far behind what was searched already: one that
    comes first in a chunk is not seen, and the line waits for the next one."""
    text, searched = b"", 0
    while data := await connection.recv():
        text += data
        while (end := text.find(b"\n", searched and searched + 1)) >= 0:
            await connection.send_all(text[: end + 1])
            text, searched = text[end + 1 :], 0
        searched = len(text)
    await connection.send_all(text)


async def waits_after_the_end(connection: Connection) -> None:
    """The client has ended its stream, and the handler waits for a word that can't come."""
    async for data in connection:
        await connection.send_all(data)
    await anysock.Event().wait()


async def _until_later() -> None:
    await anysock.Event().wait()


async def leaks_a_task(connection: Connection) -> None:
    """A task is started for each client, and never ended."""
    anysock.spawn(_until_later(), name="left over")
    while data := await connection.recv():
        await connection.send_all(data)


# -- Good handlers, which meet what is planted below them ------------------------------------------


async def has_a_second_sender(connection: Connection) -> None:
    """An echo, beside which another task tries to send whenever it would be refused."""

    async def try_in_vain() -> None:
        while True:
            await anysock.sleep(0.01)
            if connection.stream.sending:
                with contextlib.suppress(anysock.AnysockError, OSError):
                    await connection.send_all(b"!")

    beside = anysock.spawn(try_in_vain())
    try:
        while data := await connection.recv():
            await connection.send_all(data)
    finally:
        beside.cancel()


async def drains_the_server(connection: Connection) -> None:
    """An echo, whose client drains the server when it has ended its stream."""
    while data := await connection.recv():
        await connection.send_all(data)
    await cast("anysock.Server[None]", connection.server).drain()
