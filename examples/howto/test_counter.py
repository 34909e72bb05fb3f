"""Tests of the line protocol: its rules without a connection, its server with real ones."""

import pytest
from counter import answer, counter

import anysock


def test_rules():
    assert answer("ADD apples 3") == "OK"
    assert answer("ADD apples -1") == "OK"
    assert answer("GET apples") == "2"


@pytest.mark.parametrize("number", ["", "-", "--3", "²", "٣", "1_000", "0x1", "1.5", "9" * 5000])
def test_what_is_no_number_is_told(number):
    assert answer(f"ADD pears {number}").startswith("ERR")
    assert answer("GET pears") == "0"


def test_over_a_connection():
    async def talk() -> bytes:
        async with anysock.Server(counter, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(b"ADD plums 5\r\nGET plums\r\nQUIT\r\n")
                answers = [line async for line in client.lines()]
        return b"".join(answers)

    # The same under every engine that serves several at once.
    for engine in ("threads", "selector", "asyncio"):
        assert anysock.run(talk, engine=engine).startswith(b"OK\r\n")
