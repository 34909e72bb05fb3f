"""Observers of the loop, and the watchdog."""

from __future__ import annotations

import contextvars
import linecache
import logging
import time
from typing import Any

import pytest

import anysock
from anysock.engines import make_engine
from anysock.loop.observers import Observer
from tests.harness import SIMULATED, receive_all

OURS = ("polling", "selector")


class Notes(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def turn_began(self, slept, woken):
        self.told.append(("turn", slept, woken))

    def task_spawned(self, task):
        self.told.append(("spawned", task.name))

    def task_stepped(self, task, seconds):
        self.told.append(("stepped", task.name, seconds))

    def task_paused(self, task, wait):
        self.told.append(("paused", task.name, type(wait).__name__))

    def task_done(self, task, error):
        self.told.append(("done", task.name, error))

    def of(self, name):
        return [(what, *rest) for what, who, *rest in self.told if who == name]


@pytest.mark.parametrize("engine", [*OURS, *SIMULATED])
def test_an_observer_hears_the_life_of_each_task(engine):
    notes = Notes()

    async def child():
        await anysock.sleep(0.01)
        await anysock.sleep(0)
        raise ValueError("oh")

    async def main():
        anysock.observe(notes)
        task = anysock.spawn(child(), name="child")
        with pytest.raises(ValueError, match="oh"):
            await task.join()

    anysock.run(main, engine=engine)
    life = notes.of("child")
    assert [what for what, *_ in life] == [
        *("spawned", "stepped", "paused", "stepped", "paused", "stepped", "done"),
    ]
    assert [rest[0] for what, *rest in life if what == "paused"] == ["Sleep", "Sleep"]
    assert all(0 <= rest[0] < 5 for what, *rest in life if what == "stepped")
    assert repr(life[-1][1]) == "ValueError('oh')"
    assert notes.of("main")[-1][0] == "done"
    turns = [told for told in notes.told if told[0] == "turn"]
    if engine == "selector":
        assert any(slept >= 0.005 for _, slept, _ in turns)
    assert all(woken >= 0 for _, _, woken in turns)


def test_an_observer_that_raises_is_taken_out_and_hurts_nothing(caplog):
    class Faulty(Observer):
        def task_stepped(self, task, seconds):
            raise RuntimeError("I am the observer")

    notes = Notes()

    async def main():
        anysock.observe(Faulty())
        anysock.observe(notes)
        await anysock.sleep(0.001)
        await anysock.sleep(0.001)
        return "done"

    assert anysock.run(main) == "done"
    [record] = caplog.records
    assert "failed in step, and is taken out" in record.getMessage()
    assert record.exc_info is not None
    assert len(notes.of("main")) > 3


def test_the_last_observer_leaves_no_wrapper_behind():
    engine: Any = make_engine("selector")
    notes = Notes()

    async def main():
        kernel = engine._kernel
        poller = kernel.poller
        engine.own_loop.observe(notes)
        assert kernel.poller is not poller
        await anysock.sleep(0)
        engine.own_loop.unobserve(notes)
        engine.own_loop.unobserve(notes)
        assert kernel.poller is poller
        assert kernel.on_spawn is None
        for task in kernel.tasks:
            assert isinstance(task.context, contextvars.Context)
        heard = len(notes.told)
        await anysock.sleep(0)
        await anysock.sleep(0.001)
        assert len(notes.told) <= heard + 2  # the step in which it left, and no more

    engine.run(main())


@pytest.mark.parametrize("engine", ["threads", "asyncio", "uvloop", "trio"])
def test_where_the_loop_is_not_ours_there_is_a_clear_error(engine):
    async def main():
        with pytest.raises(
            anysock.UsageError, match=f"{engine!r} has no loop that can be observed"
        ):
            anysock.observe(Notes())

    anysock.run(main, engine=engine)


# -- the watchdog -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_a_slow_step_is_told_with_its_stack(name, caplog):
    async def sluggish():
        await anysock.sleep(0)
        time.sleep(0.3)  # the step is what is measured

    async def main():
        await anysock.spawn(sluggish(), name="sluggish").join()

    engine: Any = make_engine(name)
    engine.own_loop.watch_steps(0.05)
    linecache.clearcache()
    with caplog.at_level(logging.WARNING):
        engine.run(main())
    mine = [record for record in caplog.records if "'sluggish'" in record.getMessage()]
    assert len(mine) == 1, "told once"
    assert "'sluggish' holds up the loop" in mine[0].getMessage()
    assert "time.sleep(0.3)" in mine[0].getMessage()
    read = [file for file in linecache.cache if "/_pytest/" in file]
    assert not read, "only the sources of the step are read"


@pytest.mark.parametrize("name", OURS)
def test_a_turn_of_many_short_steps_is_told(name, caplog):
    async def short():
        time.sleep(0.03)  # none of them is a slow step

    async def main():
        async with anysock.task_group() as group:
            for number in range(20):
                group.spawn(short(), name=f"short-{number}")

    engine: Any = make_engine(name)
    engine.own_loop.watch_steps(0.1)
    with caplog.at_level(logging.WARNING):
        engine.run(main())
    told = [record.getMessage() for record in caplog.records]
    mine = [text for text in told if text.startswith("an iteration with many steps, of 'short-")]
    assert len(mine) == 1, "told once a turn"
    assert "among others, holds up the loop" in mine[0]


@pytest.mark.parametrize("name", OURS)
def test_who_is_alone_holds_up_nobody(name, caplog):
    async def main():
        time.sleep(0.3)  # as a server does that reads its certificates before it listens
        await anysock.sleep(0)
        held_up = anysock.spawn(anysock.sleep(0), name="held-up")
        time.sleep(0.3)
        await held_up.join()

    engine: Any = make_engine(name)
    engine.own_loop.watch_steps(0.05)
    with caplog.at_level(logging.WARNING):
        engine.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "of the step that has somebody to hold up"
    assert "'main' holds up the loop" in told[0]


def test_many_short_steps_and_long_sleeps_are_no_slow_step(caplog):
    async def busy():
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            await anysock.sleep(0)

    async def main():
        async with anysock.task_group() as group:
            for _ in range(50):
                group.spawn(busy())
        await anysock.sleep(0.2)

    engine: Any = make_engine("selector")
    engine.own_loop.watch_steps(0.1)
    engine.run(main())
    assert not caplog.records


def test_the_server_tells_of_a_handler_that_blocks(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "async def blocker(connection):\n"
        "    await connection.recv()\n"
        "    time.sleep(0.5)\n"
    )
    server = start_server("mine:blocker", cwd=tmp_path)
    with server.connect() as client:
        client.sendall(b"x")
        assert receive_all(client) == b""
    server.wait_for("warning: task .client .* holds up the loop")
    server.wait_for(r"time\.sleep\(0\.5\)")


def test_in_production_it_does_not(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import time\nasync def blocker(connection):\n    time.sleep(0.3)\n"
    )
    server = start_server("mine:blocker", "--production", cwd=tmp_path)
    server.base_threads -= 1  # the watchdog
    assert server.ask(b"") == b""
    assert "holds up" not in server.log
