"""What a server asks its machine, it asks the simulated one: no figure depends on the real one."""

from __future__ import annotations

from anysock.engines.sim import system
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import DESCRIPTORS
from anysock.server.housekeeping import most_held


def test_memory_and_descriptors_are_those_of_the_host():
    engine = SimEngine()

    async def main() -> tuple[int, int | None, int | None]:
        machine = engine.machine
        return most_held(machine), machine.resident(), machine.free_descriptors()

    held, resident, descriptors = engine.run(main())
    assert held == system.MEMORY // 2
    assert resident is None
    # The loop has a pair to be woken by.
    assert descriptors == DESCRIPTORS - 2
