"""A handler that fails, and peers that can't make it fail: what is told, and who notices.

With real clients, once under each engine: `test_handler_failure.py`, `test_handler_matrix.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection
from anysock.handlers.echo import echo
from anysock.handlers.lines import make_lines
from tests.simulation import Serving, receive_all, serving, simulate

FAILURE = r"the handler failed for \('10\.0\.0\.1', (\d+)\)"


@pytest.mark.parametrize("handler", ["echo", "lines"])
def test_a_failure_is_logged_once_with_peer_and_traceback(handler):
    async def scenario(world):
        async with serving(world, handler, fail_on="boom") as running:
            async with await running.connect() as client:
                port = client.local[1]
                await client.send_all(b"hello\r\n")
                assert await client.recv_exactly(7) == b"hello\r\n"
                await client.send_all(b"boom\r\n")
                assert await client.recv() == b""
            assert await running.ask(b"next\n") == b"next\n"
            [_] = running.failures()
            assert int(running.line(FAILURE)[1]) == port
            assert running.line("Traceback")
            assert running.line("Failure: the client sent the line 'boom'")
            assert running.told.reasons == [CloseReason.FAILED, CloseReason.DONE]

    simulate(scenario)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_fault_is_matched_on_a_line_and_not_on_a_chunk(size):
    async def scenario(world):
        async with serving(world, "echo", fail_on="boom") as running:
            for data, echoed in (
                (b"boom box\nkaboom\nboo", b"boom box\nkaboom\nboo"),
                (b"boom\r\r\nBOOM\n", b"boom\r\r\nBOOM\n"),
                (b"hello\r\nboom\r\nnever", b"hello\r\n"),
            ):
                async with await running.connect() as client:
                    with contextlib.suppress(ConnectionError):
                        for start in range(0, len(data), size):
                            await client.send_all(data[start : start + size])
                            await world.sleep(0.01)
                        await client.send_eof()
                    # What came before the line is echoed, in the same packet or not.
                    answer = await receive_all(client)
                    assert answer.startswith(echoed)
                    assert b"boom\r\n".startswith(answer[len(echoed) :])
            assert len(running.failures()) == 1
            assert running.line(FAILURE)

    simulate(scenario)


def test_others_live_on_and_nothing_is_left():
    """Of so many failures at once, some are told, and the others are counted."""

    async def scenario(world):
        async with serving(world, "lines", fail_on="boom") as running:
            bystander = await running.connect()
            for _ in range(100):
                assert await running.ask(b"boom\n") == b""
                await bystander.send_all(b"still here\n")
                assert await bystander.recv_exactly(11) == b"still here\n"
            await bystander.close()
            await running.until_closed(101)
            assert len(running.failures()) == 100
            assert len(running.matching("handler failed after")) == 100

    simulate(scenario)


def test_an_exception_of_another_connection_is_a_failure():
    """ConnectionRefusedError of a connect that the handler made is not this peer's reset."""

    async def handler(connection: Connection) -> None:
        async with await anysock.connect("127.0.0.1:1") as other:
            await other.send_all(await connection.recv())

    async def scenario(world):
        async with serving(world, handler) as running:
            async with await running.connect() as client:
                assert await client.recv() == b""
            [error] = running.failures()
            assert isinstance(error, ConnectionRefusedError)
            assert running.told.reasons == [CloseReason.FAILED]

    simulate(scenario)


# -- what a peer does is no failure ----------------------------------------------------------------


async def exactly(connection: Connection) -> None:
    while True:
        await connection.send_all(await connection.recv_exactly(100))


async def lines(connection: Connection) -> None:
    async for line in connection.lines(50):
        await connection.send_all(line)


async def twins(connection: Connection) -> None:
    """One receives and one sends; each meets the end in its own way, and goes on after it."""
    async with anysock.task_group() as group:
        group.spawn(sends(connection))
        try:
            while await connection.recv():
                pass
        finally:
            await connection.recv()


async def sends(connection: Connection) -> None:
    try:
        for _ in range(3):
            await anysock.sleep(0.002)
            await connection.send_all(b"twin")
    finally:
        await connection.send_all(b"bye")


ONE_SIDED = [make_lines(), echo, exactly, lines, twins]
PIECES = (b"x" * 301, b"x" * 299 + b"\n\n", b"x" * 30 + b"\n", b"x\n" * 200, b"x" * 3000)
ENDS = ("reset", "eof and reset", "close", "wait for a byte and reset")
LIMITS: list[dict[str, Any]] = [
    {"max_bytes": 300},
    {"rate_limit": 2000},
    {"delay": 0.005},
    {"idle_timeout": 0.1, "write_timeout": 0.1, "max_lifetime": 0.3},
    {"max_bytes": 300, "delay": 0.005, "slice": 7, "idle_timeout": 0.1},
]


@pytest.mark.parametrize("options", LIMITS, ids="-".join)
@pytest.mark.parametrize("moment", [0, 0.0003, 0.15])
def test_no_peer_can_make_a_handler_fail(options, moment):
    """Limits, and resets at every moment; no error may be in the log. (`serving` looks at that.)"""

    async def scenario(world):
        for handler in ONE_SIDED:
            async with serving(world, handler, **options) as running:
                running.expected_errors += [
                    r"^warning: (\d+ like this were not told: )?closed the connection",
                    r"^warning: (\d+ like this were not told: )?\S.* sent a ",
                ]
                async with anysock.task_group() as group:
                    for piece in PIECES:
                        for then in ENDS:
                            group.spawn(leave(running, piece, then, moment))
                await running.until_closed(len(PIECES) * len(ENDS))
                assert CloseReason.FAILED not in running.told.reasons

    simulate(scenario)


async def leave(running: Serving, piece: bytes, then: str, moment: float) -> None:
    client = await running.connect()
    with contextlib.suppress(ConnectionError):
        await client.send_all(piece)
        await anysock.sleep(moment)
        if then == "eof and reset":
            await client.send_eof()
            await anysock.sleep(moment)
        elif then == "wait for a byte and reset":
            async with anysock.move_on_after(0.05):
                await client.recv(1)
    if then != "close":
        client.abort()
    await client.close()
