"""What the engine `uring` does besides what all do."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from tests.io_uring import needs_io_uring

WITHOUT = Path(__file__).parents[2] / "without_io_uring.py"


@pytest.fixture(autouse=True)
def _needed() -> None:
    needs_io_uring()


def ring() -> Any:
    engine: Any = current_engine()
    return engine.watch.poller.ring


async def echoing(clients: int, messages: int) -> float:
    """How many calls of io_uring_enter a message of so many clients takes, of both ends."""
    async with anysock.Server("echo", bind="127.0.0.1:0") as server:

        async def talk(ready: Any) -> None:
            async with await anysock.connect(server.addresses[0]) as connection:
                await ready()
                for _ in range(messages):
                    await connection.send_all(b"x" * 64)
                    assert await connection.recv() == b"x" * 64
                await ready()

        barrier = anysock.Event()
        waiting = 0
        calls = []

        async def ready() -> None:
            nonlocal waiting, barrier
            waiting += 1
            if waiting == clients:
                calls.append(ring().calls)
                waiting, before, barrier = 0, barrier, anysock.Event()
                before.set()
            else:
                await barrier.wait()

        async with anysock.task_group() as group:
            for _ in range(clients):
                group.spawn(talk(ready))
        first, last = calls
    return float(last - first) / (clients * messages)


def test_many_messages_take_few_system_calls():
    async def main() -> float:
        return await echoing(50, 40)

    # Two turns for all fifty, if they keep step; and one a message each, if nothing was shared.
    assert anysock.run(main, engine="uring") < 0.2


def test_what_comes_ahead_of_a_handler_is_bounded():
    async def main() -> None:
        seen: list[Any] = []
        over = anysock.Event()

        async def silent(connection: anysock.Connection) -> None:
            assert await connection.recv(1) == b"x"
            seen.append(connection.stream)
            await over.wait()
            received = 1
            while data := await connection.recv():
                received += len(data)
            seen.append(received)

        async with anysock.Server(silent, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as connection:

                async def send() -> None:
                    await connection.send_all(b"x" * 30_000_000)

                sending = anysock.spawn(send())
                await anysock.sleep(0.3)  # in which all could come, if nothing held it
                assert not sending.done
                assert 0 < seen[0].held < 600_000
                over.set()
                await sending.join()
                await connection.send_eof()
                assert await connection.recv() == b""
        assert seen[1] == 30_000_000

    anysock.run(main, engine="uring")


def test_what_was_sent_before_the_close_arrives():
    async def main() -> None:
        async def tells(connection: anysock.Connection) -> None:
            for _ in range(20):
                await connection.send_all(b"y" * 60_000)

        async with anysock.Server(tells, bind="127.0.0.1:0", socket_buffer=8192) as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                await anysock.sleep(0.1)  # its buffers are full
                received = 0
                while data := await connection.recv(10_000):
                    received += len(data)
                assert received == 20 * 60_000

    anysock.run(main, engine="uring")


def test_nothing_stays_in_flight_of_cancelled_operations():
    async def main() -> None:
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:

            async def round_() -> None:
                async with await anysock.connect(server.addresses[0]) as connection:
                    for _ in range(5):
                        async with anysock.move_on_after(0.0005):
                            await connection.recv()
                    await connection.send_all(b"z")
                    assert await connection.recv() == b"z"
                    async with anysock.move_on_after(0.001):
                        await connection.send_all(b"z" * 20_000_000)
                    connection.abort()

            def left() -> tuple[int, int]:
                gc.collect()
                conduits = [each for each in gc.get_objects() if type(each).__name__ == "Conduit"]
                return ring().in_flight, len(conduits)

            async def gone() -> None:
                while server.connections:
                    await anysock.sleep(0.01)

            await round_()
            await gone()
            await anysock.sleep(0.1)
            before = left()
            for _ in range(50):
                await round_()
            await gone()
            async with anysock.timeout(10):
                while left() > before:
                    await anysock.sleep(0.01)

    anysock.run(main, engine="uring")


def test_where_it_is_refused_one_line_says_so():
    without = [sys.executable, str(WITHOUT), sys.executable, "-m", "anysock"]
    done = subprocess.run(
        [*without, "serve", "--engine", "uring", "--bind", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith("anysock: the engine 'uring' is not available here: it needs io_uring: ")
    wide = {**os.environ, "COLUMNS": "300"}
    listed = subprocess.run(
        [*without, "engines"], capture_output=True, text=True, timeout=60, check=True, env=wide
    )
    [uring] = [line for line in listed.stdout.splitlines() if line.split()[:1] == ["uring"]]
    assert "needs io_uring" in uring


def test_without_its_compiled_part_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "anysock._uring", None)
    from anysock.engines import ENGINES

    why_not = ENGINES["uring"].why_not()
    assert why_not is not None
    assert why_not.startswith("needs its compiled part, which is not there")
