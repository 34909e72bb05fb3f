"""Whoever has much to do at once lets the others have their turn: counted in work, not in calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from anysock.net.tls_session import RECORDS_IN_A_ROW
from anysock.streams.connection import Connection
from anysock.streams.costly import MAX_SECONDS_PER_ITERATION, CostlyWork
from anysock.streams.receiving import _IN_A_ROW
from tests.contract.in_process.test_streams import two_ends
from tests.contract.in_process.test_tls_stream import tls_ends
from tests.harness import CONCURRENT_ENGINES, SIMULATED
from tests.pki import TLS13, Pki

# Where each client has a thread, turns are the operating system's affair.
WITH_TURNS = [each for each in (*CONCURRENT_ENGINES, *SIMULATED) if each != "threads"]
with_turns = pytest.mark.parametrize("engine", WITH_TURNS)

MANY = 3000

# A loop may run a task last in one turn, and first in the next; and for trio a turn of the one may
# be two of the other.
AT_MOST = 4


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


async def most_in_a_turn(
    work: Callable[[], Coroutine[Any, Any, None]], done: Callable[[], int]
) -> int:
    """The most that `done` rises, during ``work()``, between two turns of another task."""
    most, last = 0, done()
    working = anysock.spawn(work())
    while not working.done:
        await anysock.sleep(0)
        now = done()
        most, last = max(most, now - last), now
    await working.join()
    return most


@with_turns
def test_small_records_are_opened_some_at_a_time(engine, pki):
    async def main():
        async with tls_ends(pki, TLS13) as (near, far):
            records = [near._session.encrypt(b"x") for _ in range(MANY)]

            async def work():
                received = 0
                while received < MANY:
                    received += len(await far.recv())

            await near._inner.send_all(b"".join(records))
            most = await most_in_a_turn(work, lambda: far._session.opened)
            assert 0 < most <= AT_MOST * RECORDS_IN_A_ROW

    anysock.run(main, engine=engine)


@with_turns
@pytest.mark.parametrize("how", ["lines", "exactly", "bytes"])
def test_what_has_come_is_handed_out_some_at_a_time(engine, how):
    async def main():
        async with two_ends(lambda stream: stream) as (near, far):
            connection, taken = Connection(far), 0

            async def work():
                nonlocal taken
                await connection.recv_line()
                while taken + 1 < MANY:
                    taken += 1
                    if how == "lines":
                        assert await connection.recv_line() == b"\n"
                    elif how == "exactly":
                        assert await connection.recv_exactly(1) == b"\n"
                    else:
                        assert await connection.recv(1) == b"\n"

            await near.send_all(b"\n" * MANY)
            assert 0 < await most_in_a_turn(work, lambda: taken) <= AT_MOST * _IN_A_ROW

    anysock.run(main, engine=engine)


@with_turns
def test_who_is_cancelled_while_the_others_have_their_turn_loses_no_line(engine):
    lines = [b"%d\n" % number for number in range(1000)]

    async def main():
        async with two_ends(lambda stream: stream) as (near, far):
            connection, cancelled = Connection(far), 0
            came: list[bytes] = []

            async def read():
                while len(came) < len(lines):
                    came.append(await connection.recv_line())

            await near.send_all(b"".join(lines))
            while len(came) < len(lines):
                reading = anysock.spawn(read())
                await anysock.sleep(0)
                reading.cancel()
                with contextlib.suppress(anysock.Cancelled):
                    await reading.join()
                    cancelled -= 1
                cancelled += 1
            assert came == lines
            assert cancelled > 1

    anysock.run(main, engine=engine)


class Clocked:
    """The engine, with a clock that goes on with the work that is done, and with nothing else."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def __getattr__(self, name: str) -> Any:
        return getattr(current_engine(), name)


@with_turns
@pytest.mark.parametrize("seconds", [0.0005, 0.001, 0.01])
def test_of_costly_work_so_much_is_done_in_a_turn(engine, seconds):
    async def main():
        engine: Any = Clocked()
        costly, order = CostlyWork(engine), []

        async def worker(number: int) -> None:
            def work() -> str:
                engine.time += seconds
                order.append(number)
                return "done"

            assert await costly.do(work) == "done"

        async def work():
            async with anysock.task_group() as group:
                for number in range(200):
                    group.spawn(worker(number))

        most = await most_in_a_turn(work, lambda: len(order))
        assert len(order) == 200
        assert 0 < most <= AT_MOST * max(1, MAX_SECONDS_PER_ITERATION / seconds)
        assert abs(costly._spent) < 1e-9
        if current_engine().name != "trio":  # which runs what is ready in an order of its own
            assert order == sorted(order)

    anysock.run(main, engine=engine)


@with_turns
def test_costly_work_that_fails_or_is_given_up_leaves_its_place_to_others(engine):
    async def main():
        engine: Any = Clocked()
        costly, done = CostlyWork(engine), 0

        def work() -> None:
            nonlocal done
            engine.time += 0.01
            done += 1
            if done % 3 == 0:
                raise ValueError

        tasks = [anysock.spawn(costly.do(work)) for _ in range(60)]
        for number, task in enumerate(tasks):
            if number % 4 == 0:
                await anysock.sleep(0)
                task.cancel()
        for task in tasks:
            with contextlib.suppress(ValueError, anysock.Cancelled):
                await task.join()
        assert 30 < done < 60
        assert not costly._waiters
        assert abs(costly._spent) < 1e-9

    anysock.run(main, engine=engine)


def test_where_each_task_has_a_thread_costly_work_is_done_at_once():
    async def main():
        costly = CostlyWork(current_engine())
        costly._spent = 1.0
        assert await costly.do(lambda: "done") == "done"

    anysock.run(main, engine="threads")
