"""Many histories in a row: their garbage is collected between them, and by nobody else."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys

import pytest

import anysock
from anysock import sim
from anysock.sim.many import many


async def scenario(world: sim.World) -> None:
    world.host("server").serve("echo", bind="tcp://:7")
    async with await anysock.connect("server:7") as connection:
        await connection.send_all(b"hello")
        assert await connection.recv_exactly(5) == b"hello"


def test_garbage_does_not_pile_up():
    gc.collect()
    with many():
        assert not gc.isenabled()
        living = []
        for seed in range(60):
            sim.World(seed).run(scenario)
            living.append(len(gc.get_objects()))
    assert gc.isenabled()
    assert max(living[30:]) < max(living[:30]) + 200
    grown = [after - before for before, after in itertools.pairwise(living)]
    assert max(grown) > 200, "these leave some behind: else there is nothing to test"


def test_who_has_turned_collecting_off_keeps_it_so():
    gc.disable()
    try:
        with many():
            sim.World(1).run(scenario)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_program_has_frozen_stays_frozen():
    gc.freeze()
    before = gc.get_freeze_count()
    with many():
        sim.World(1).run(scenario)
    assert gc.get_freeze_count() > before / 2


def test_what_there_is_before_is_not_looked_through():
    """Python 3.12 begins with some objects that are frozen already, which the program has not."""
    program = (
        "import gc\n"
        "from anysock.sim.many import many\n"
        "with many():\n"
        "    print(len(gc.get_objects()))\n"
        "print(len(gc.get_objects()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    within, after = map(int, done.stdout.split())
    assert within < 100 < 10_000 < after


@pytest.mark.parametrize(
    "one",
    [
        "explorer.block(range(seed, seed + 1))",
        "with many(): last = explorer.run(explorer.asked.plan(seed))",
    ],
    ids=["by itself", "that is held"],
)
def test_blocks_of_one_history_leave_nothing_behind(one):
    """As of twenty clients on a slow machine. (In a process of its own: this one has frozen what it
    has, which changes what is collected.)"""
    program = (
        "import gc\n"
        "from anysock.sim.explore import Asked, Explorer\n"
        "from anysock.sim.many import many\n"
        "explorer = Explorer(Asked(clients=1))\n"
        "for seed in range(48):\n"
        f"    {one}\n"
        "    print(len(gc.get_objects()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    living = list(map(int, done.stdout.split()))
    # (One history has some hundred.)
    assert min(living[32:]) < min(living[16:32]) + 100
