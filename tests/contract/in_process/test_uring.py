"""What the engine `uring` does besides what all do."""

from __future__ import annotations

import gc
import itertools
import os
import random
import subprocess
import sys
import tracemalloc
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


def test_in_bulk_nothing_is_lost_of_receives_that_are_given_up():
    whole = random.Random(1).randbytes(6_000_000)

    async def main() -> None:
        received = bytearray()
        given_up = 0

        async def sip(connection: anysock.Connection) -> None:
            nonlocal given_up
            sizes = itertools.cycle([None, 100_000, 5, 300_000, 20_000])
            while len(received) < len(whole):
                async with anysock.move_on_after(0 if next(turns) % 3 else None) as scope:
                    received.extend(await connection.recv(next(sizes)))
                given_up += scope.fired

        turns = itertools.count()
        async with anysock.Server(sip, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                for at in range(0, len(whole), 250_000):
                    await connection.send_all(whole[at : at + 250_000])
                assert await connection.recv() == b""
        assert received == whole
        assert given_up > 10

    anysock.run(main, engine="uring")


def test_after_bulk_no_memory_waits_with_a_receive():
    async def main() -> None:
        async def echo(connection: anysock.Connection) -> None:
            while not connection.stream.end_received:
                await connection.send_all(await connection.recv())  # and keep nothing of it

        async with anysock.Server(echo, bind="127.0.0.1:0") as server:
            connections = [await anysock.connect(server.addresses[0]) for _ in range(20)]
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for connection in connections:
                    await connection.send_all(b"x" * 1_000_000)
                    left = 1_000_000
                    while left:
                        left -= len(await connection.recv())
                # All of them wait for more, at both ends.
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] - before < 200_000
            finally:
                tracemalloc.stop()
            for connection in connections:
                await connection.close()

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


def test_a_turn_of_what_is_no_ring_is_refused():
    async def main():
        module = current_engine()._kernel.compiled  # type: ignore[attr-defined]
        for wrong in ((), (None, 3, 0.0), (None, ring(), "x")):
            with pytest.raises(TypeError):
                module.turn(*wrong)
            with pytest.raises(TypeError):
                module.Recorder(0.0, lambda: None).turn(*wrong)

    anysock.run(main, engine="uring")
