"""The traps that naive servers of lines fall into, and the order in which pieces may come.

With real clients, once under each engine: `test_traps.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import anysock
from tests.simulation import receive_all, send, serving, simulate

PREFIX: dict[str, Any] = {"prefix": "Buffer: "}


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"one\r\ntwo\r\n", b"Buffer: one\r\nBuffer: two\r\n"),
        (b"one\ntwo\n", b"Buffer: one\nBuffer: two\n"),
        (b"one\nrest", b"Buffer: one\nrest"),
        (b"\n\r\n", b"Buffer: \nBuffer: \r\n"),
    ],
    ids=["CRLF", "LF only", "left at the end", "empty"],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_the_same_in_whatever_pieces_they_come(data, answer, size):
    async def scenario(world):
        async with serving(world, "lines", **PREFIX) as running, await running.connect() as client:
            for start in range(0, len(data), size):
                await client.send_all(data[start : start + size])
                await world.sleep(0.1)  # so each is a read of its own
            await client.send_eof()
            assert await receive_all(client) == answer

    simulate(scenario)


@pytest.mark.parametrize("silence", [0.2, 500])
def test_half_a_line_then_silence_then_the_rest(silence):
    async def scenario(world):
        async with serving(world, "lines", **PREFIX) as running, await running.connect() as client:
            await client.send_all(b"hel")
            async with anysock.move_on_after(silence) as scope:
                assert not await client.recv(), "answered before the line was complete"
            assert scope.fired
            await client.send_all(b"lo\r\n")
            assert await client.recv_exactly(15) == b"Buffer: hello\r\n"

    simulate(scenario)


def test_an_unterminated_line_is_cut_off_at_its_limit():
    async def scenario(world):
        async with serving(world, "lines", max_line=65536) as running:
            running.expected_errors.append("line longer than 65536 bytes")
            async with await running.connect() as client:
                sending = anysock.spawn(send(client, b"y" * 10_000_000))
                answer = b"error: line longer than 65536 bytes\r\n"
                assert await client.recv_exactly(len(answer)) == answer
                with contextlib.suppress(ConnectionError):
                    await sending.join()
            await running.until_closed()
            assert len(running.matching("line longer than")) == 1

    simulate(scenario)


def test_a_line_of_just_the_limit_is_no_longer_than_it():
    async def scenario(world):
        async with serving(world, "lines", max_line=10) as running:
            running.expected_errors.append("line longer than 10 bytes")
            for end in (b"\n", b"\r\n"):
                assert await running.ask(b"0123456789" + end) == b"0123456789" + end
            answer = await running.ask(b"01234567890\n")
            assert answer == b"error: line longer than 10 bytes\r\n"

    simulate(scenario)


def test_each_client_gets_its_own_answers():
    async def scenario(world):
        async with serving(world, "lines") as running:
            clients = [await running.connect() for _ in range(20)]
            for round in range(5):
                for number, client in enumerate(clients):
                    await client.send_all(b"client %d, line %d\r\n" % (number, round))
            for number, client in enumerate(clients):
                expected = b"".join(
                    b"client %d, line %d\r\n" % (number, round) for round in range(5)
                )
                assert await client.recv_exactly(len(expected)) == expected
                await client.close()

    simulate(scenario)
