"""A trace of a server, under every engine."""

from __future__ import annotations

import pytest

import anysock
from anysock.traces.format import read
from tests.harness import CONCURRENT_ENGINES

OURS = {"selector", "polling", "uring"}


@pytest.mark.parametrize("concurrent_engine", CONCURRENT_ENGINES)
def test_the_life_of_a_connection_is_told(concurrent_engine, tmp_path):
    async def handler(connection: anysock.Connection) -> None:
        async for line in connection.lines():
            await connection.send_all(line)
            if line == b"fail\n":
                raise ValueError("oh")

    async def main() -> None:
        async with (
            anysock.Server(handler, bind="127.0.0.1:0") as server,
            await anysock.connect(server.addresses[0]) as client,
        ):
            for line in (b"one\n", b"fail\n"):
                await client.send_all(line)
                assert await client.recv_line() == line
            assert await client.recv() == b""

    with anysock.trace(tmp_path / "x"):
        anysock.run(main, engine=concurrent_engine)
    head, events = read(tmp_path / "x")
    assert head["engine"] == concurrent_engine
    marks = [event["what"] for event in events if event["e"] == "mark"]
    assert marks[0] == "listening"
    assert "drained" in marks
    told = [event for event in events if event["e"] in ("accept", "open", "failed", "close")]
    assert [event["e"] for event in told] == ["accept", "open", "failed", "close"]
    assert len({event["conn"] for event in told}) == 1
    assert told[1]["peer"].startswith("127.0.0.1:")
    assert told[2]["error"] == "ValueError: oh"
    assert (told[3]["reason"], told[3]["got"], told[3]["sent"]) == ("handler failed", 9, 9)
    assert events[-1]["why"] == "over"
    if concurrent_engine in OURS:
        [serves] = [event for event in events if event["e"] == "serves"]
        assert serves["conn"] == told[0]["conn"]
        steps = [each for each in events if each["e"] == "step" and each["task"] == serves["task"]]
        assert sum(step.get("got", 0) for step in steps) == 9
        assert sum(step.get("sent", 0) for step in steps) == 9
    else:
        assert not [event for event in events if event["e"] in ("turn", "step", "task")]
