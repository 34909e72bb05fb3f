"""Many histories in a row: their garbage is collected between them, and by nobody else."""

from __future__ import annotations

import gc

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
        for seed in range(20):
            sim.World(seed).run(scenario)
            living.append(len(gc.get_objects()))
    assert gc.isenabled()
    # Before each fourth history, the garbage of those before goes.
    assert living[19] < living[3] + 200
    assert living[6] > living[3] + 200, "these leave some behind: else there is nothing to test"


def test_who_has_turned_collecting_off_keeps_it_so():
    gc.disable()
    try:
        with many():
            sim.World(1).run(scenario)
        assert not gc.isenabled()
    finally:
        gc.enable()
