"""The engine `sim`: the real server and the real streams, on one host and on several."""

from __future__ import annotations

from typing import Any

import anysock
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network


def test_a_server_and_a_client_on_one_host():
    async def main() -> bytes:
        async with anysock.Server("echo", bind="127.0.0.1:7") as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                await connection.send_all(b"hello\n")
                return await connection.recv_line()

    assert anysock.run(main, engine=SimEngine()) == b"hello\n"


def history(seed: int) -> list[tuple[Any, ...]]:
    """A server on one host, a client on another, and who tells them what to do on a third."""
    network = Network(seed)
    director, serving, asking = (
        SimEngine(host=Host(network, name)) for name in ("director", "server", "client")
    )
    server: anysock.Server = anysock.Server("echo", bind="tcp://:7")

    async def client() -> None:
        async with await anysock.connect("server:7") as connection:
            for number in range(3):
                await connection.send_all(b"%d\n" % number)
                assert await connection.recv_line() == b"%d\n" % number
            await connection.send_all(bytes(50_000))
            await connection.send_eof()
            assert await connection.recv_exactly(50_000) == bytes(50_000)
            assert await connection.recv() == b""

    async def main() -> None:
        serves = serving.spawn_here(server.serve_forever())
        await anysock.sleep(0.001)
        asks = asking.spawn_here(client())
        while not asks.done:
            await anysock.sleep(0.001)
        asks.result()
        serving.spawn_here(server.drain())
        while not serves.done:
            await anysock.sleep(0.001)
        serves.result()

    anysock.run(main, engine=director)
    return network.trace


def test_a_history_of_several_hosts_can_be_repeated():
    assert history(1) == history(1)
    assert {entry[1] for entry in history(1)} == {"server", "client", "network"}
