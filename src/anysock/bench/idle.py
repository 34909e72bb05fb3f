"""What idle clients cost: memory for each, and CPU time for all."""

from __future__ import annotations

import contextlib

from anysock.bench.processes import cpu_of, memory_of
from anysock.net.addresses import Address
from anysock.streams.connection import Connection
from anysock.tasks import connecting, runtime

# The number of clients that connect first: by then the server has allocated what it needs once.
_FIRST = 50

# How long the CPU time of the idle server is measured.
_SECONDS = 1.0


def idle_cost(pid: int, address: Address, connections: int) -> dict[str, float] | None:
    """``bytes`` of memory of one of `connections` idle ones, and the ``cpu`` share of a core that
    all of them cost the server `pid`; None where that can't be known.

    Each has echoed a few bytes before, so that what a first message allocates is counted.
    """
    return runtime.run(_idle_cost, pid, address, connections)


async def _idle_cost(pid: int, address: Address, connections: int) -> dict[str, float] | None:
    async with contextlib.AsyncExitStack() as stack:

        async def connect(count: int) -> None:
            for _ in range(count):
                client: Connection = await stack.enter_async_context(
                    await connecting.connect(address)
                )
                await client.send_all(b"hello")
                await client.recv_exactly(5)

        await connect(_FIRST)
        before = memory_of(pid)
        await connect(connections)
        after = memory_of(pid)
        cpu = cpu_of([pid])
        await runtime.sleep(_SECONDS)
        later = cpu_of([pid])
    if before is None or after is None or cpu is None or later is None:
        return None
    return {"bytes": (after - before) / connections, "cpu": (later - cpu).total / _SECONDS}
