"""A load balancer in front of a server, with the PROXY protocol."""

from __future__ import annotations

import pytest

import anysock
from anysock import sim
from anysock.engines.sim.faults import parse

SERVER, BALANCER = "server:7", "balancer:9000"


async def peer_of(connection: anysock.Connection) -> None:
    """Answer each line with the address of whom it comes from."""
    async for _ in connection.lines():
        await connection.send_all(f"{connection.peer[0]}\n".encode())


async def ask(address: str, times: int = 1) -> list[bytes]:
    async with await anysock.connect(address) as connection:
        answers = []
        for _ in range(times):
            await connection.send_all(b"who?\n")
            answers.append(await connection.recv_line())
        return answers


def balanced(world: sim.World, header: int, **options) -> anysock.Server:
    if header:
        options |= {"proxy_protocol": "required", "proxy_from": ["10.0.0.0/8"]}
    server = world.host("server").serve(peer_of, bind="tcp://:7", **options)
    world.host("balancer").serve(sim.proxy(SERVER, header=header), bind="tcp://:9000")
    return server


@pytest.mark.parametrize("header", [0, 1, 2])
def test_the_server_is_told_who_the_client_is(header):
    async def scenario(world):
        balanced(world, header)
        client = world.host("client")
        [answer] = await client.spawn(ask(BALANCER)).join()
        told = client if header else world.host("balancer")
        assert answer.strip().decode() == told.host.addresses[0]

    sim.World(1).run(scenario)


@pytest.mark.parametrize("header", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_rough_network_who_is_answered_is_answered_rightly(seed, header):
    async def client(host) -> None:
        try:
            answers = await ask(BALANCER, 20)
        except (OSError, anysock.EndOfStream):
            return
        assert {answer.strip().decode() for answer in answers} == {host.host.addresses[0]}

    async def scenario(world):
        server = balanced(world, header, handshake_timeout=20, min_rate=0)
        for host in world.hosts("client", 4):
            host.spawn(client(host))
        await world.sleep(20)
        world.heal()
        await world.join()
        await server.drain()

    world = sim.World(seed, faults="rough,reset=0.01")
    world.run(scenario, until=200)
    assert world.fired["split"]


def test_whose_server_is_gone_is_reset():
    async def scenario(world):
        balanced(world, 2)
        world.host("server").crash()
        with pytest.raises(ConnectionResetError):
            await ask(BALANCER)

    sim.World(1).run(scenario)


def test_whose_header_meets_a_reset_is_reset():
    async def scenario(world):
        balanced(world, 2)
        with pytest.raises(ConnectionResetError):
            await ask(BALANCER)
        assert world.fired["reset"] == 1

    # The header takes several segments from the balancer to the server.
    small = parse("small-buffers=1:least=10:most=20,reset=1")
    plan = small.keeping("reset", ["balancer.0>#1"])
    sim.World(1, faults=plan).run(scenario)


@pytest.mark.parametrize("header", [0, 1, 2])
def test_health_checks_end_when_a_server_is_gone_and_hurt_nobody(header):
    ends: list[anysock.CloseReason] = []

    class Told(anysock.Events):
        def connection_closed(self, connection, reason, error) -> None:
            ends.append(reason)

    async def scenario(world):
        balanced(world, header, events=Told())
        checks = world.host("balancer").spawn(sim.check_health(SERVER, header=header))
        await ask(BALANCER)
        await world.sleep(5)
        world.host("server").crash()
        await checks.join()
        assert 7 < world.now < 10

    sim.World(1).run(scenario)
    assert ends.count(anysock.CloseReason.NO_DATA) >= 5
    assert set(ends) == {anysock.CloseReason.NO_DATA, anysock.CloseReason.DONE}


def test_what_is_no_server_or_no_version_is_refused():
    with pytest.raises(anysock.UsageError, match="versions 1 and 2"):
        sim.proxy(SERVER, header=3)
    with pytest.raises(TypeError, match="takes the address"):
        sim.proxy(7)  # type: ignore[arg-type]
