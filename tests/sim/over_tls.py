"""Say for each seed, in one line, what happens in a history over TLS: its trace, hashed."""

from __future__ import annotations

import hashlib
import sys

import anysock
from anysock import sim

CLIENTS = 3


def history(seed: int) -> str:
    async def client(number: int) -> None:
        address = "tls://server:7"
        async with await anysock.connect(address, tls=sim.client_context()) as connection:
            for message in range(number + 1):
                await connection.send_all(b"%d\n" % message)
                assert await connection.recv_line() == b"%d\n" % message

    async def scenario(world: sim.World) -> None:
        server = world.host("server")
        serving = server.serve("echo", bind="tls://:7", tls_cert=sim.CERTIFICATE)
        for number, host in enumerate(world.hosts("client", CLIENTS)):
            host.spawn(client(number))
        await world.join()
        await serving.drain()

    world = sim.World(seed, faults="calm")
    world.run(scenario)
    trace = world.network.trace
    assert trace[-1][2] == "carried", "what the bytes were is part of it"
    return hashlib.sha256(repr(trace).encode()).hexdigest()


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(seed, history(seed))
