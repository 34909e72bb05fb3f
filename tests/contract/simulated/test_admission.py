"""Who comes in, how fast, and how much may move: the limits that are no limits of time.

With real clients, under each engine: `test_limits.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection
from tests.simulation import Serving, receive_all, send, serving, simulate

REFUSED = ["too many", "denied", "closed the connection", "further clients wait"]


async def served(client: Connection, seconds: float = 10) -> bool:
    """Whether the client is answered within so many seconds."""
    await client.send_all(b"hello")
    async with anysock.move_on_after(seconds):
        return bool(await client.recv_exactly(5) == b"hello")
    return False


async def is_turned_away(running: Serving, host: str | None = None) -> bool:
    """Whether a client is, who says nothing."""

    async def look() -> bool:
        try:
            async with await running.connect() as client, anysock.move_on_after(1):
                return await client.recv() == b""
        except ConnectionResetError:
            return True
        return False

    return await (look() if host is None else running.world.host(host).spawn(look()).join())


@pytest.mark.parametrize("overflow", ["wait", "close"])
def test_the_third_waits_until_one_leaves_or_is_closed(overflow):
    async def scenario(world):
        async with serving(world, max_connections=2, overflow=overflow) as running:
            running.expected_errors += REFUSED
            first, second, third = [await running.connect() for _ in range(3)]
            assert await served(first)
            assert await served(second)
            if overflow == "wait":
                assert not await served(third, 100)
                assert len(running.server.connections) == 2
                left = world.now
                await first.close()
                assert await third.recv_exactly(5) == b"hello"
                assert world.now - left < 0.01, "at once, and not when somebody looks"
                assert running.server.counters.waited == {"max_connections": 1}
            else:
                assert await is_turned_away(running)
                assert running.told.reasons.count(CloseReason.OVERFLOW) == 2
                await first.close()
                await running.until_closed(3)
                fourth = await running.connect()
                assert await served(fourth)
                await fourth.close()
            assert await served(second), "nobody else has noticed"
            for client in (first, second, third):
                await client.close()

    simulate(scenario)


def test_one_source_has_so_many_and_another_as_many():
    async def scenario(world):
        async with serving(world, per_source=2) as running:
            running.expected_errors += REFUSED

            async def stay(seconds: float) -> bool:
                async with await running.connect() as client:
                    answered = await served(client)
                    await anysock.sleep(seconds)
                return answered

            hosts = [world.host(name) for name in ("one", "other")]
            staying = [host.spawn(stay(5)) for host in hosts for _ in range(2)]
            await world.sleep(1)
            assert [await is_turned_away(running, host.name) for host in hosts] == [True, True]
            assert len(running.matching("too many from its source")) == 2
            assert [await each.join() for each in staying] == [True] * 4
            assert await hosts[0].spawn(stay(0)).join()

    simulate(scenario)


@pytest.mark.parametrize(
    ("options", "denied", "let_in"),
    [
        ({"deny": "10.0.0.3/32"}, "10.0.0.3", "10.0.0.1"),
        ({"allow": "10.0.0.0/30", "deny": "10.0.0.3"}, "10.0.0.3", "10.0.0.1"),
        ({"allow": "10.0.0.0/31"}, "10.0.0.3", "10.0.0.1"),
    ],
)
def test_networks_are_allowed_and_denied(options, denied, let_in):
    async def scenario(world):
        async with serving(world, **options) as running:
            running.expected_errors += REFUSED
            stranger = world.host("stranger")
            assert stranger.host.addresses[0] == denied
            assert await is_turned_away(running, "stranger")
            client = await running.connect()
            assert client.local[0] == let_in
            assert await served(client)
            await client.close()
            assert running.line(rf"closed the connection from .*{denied}.*: denied")

    simulate(scenario)


@pytest.mark.parametrize(
    "options",
    [{"deny": "10.0.0.3"}, {"max_connections": 2, "overflow": "close"}, {"per_source": 2}],
    ids=["denied", "too many", "from its source"],
)
def test_a_flood_of_those_who_are_refused_leaves_nothing_behind(options):
    """And who may come in does."""

    async def scenario(world):
        async with serving(world, **options) as running:
            running.expected_errors += REFUSED
            world.host("flood")
            staying = [] if "deny" in options else [await running.connect() for _ in range(2)]
            for client in staying:
                assert await served(client)
            before = running.descriptors()
            host = None if "per_source" in options else "flood"
            for _ in range(300):
                assert await is_turned_away(running, host)
            assert running.descriptors() == before
            for client in staying:
                await client.close()
            await running.until_closed(300 + len(staying))
            async with await running.connect() as client:
                assert await served(client)

    simulate(scenario)


# -- how fast they come ----------------------------------------------------------------------------


def test_just_as_many_come_in_as_the_rate_says_and_all_do():
    """A burst of so many at once as come in a tenth of a second, and one each 1/40 s."""

    async def scenario(world):
        async with serving(world, accept_rate=40) as running:
            running.expected_errors += REFUSED
            clients = [await running.connect() for _ in range(16)]
            for client in clients:
                assert await served(client)
                await client.close()
            await running.until_closed(16)
            assert running.server.counters.waited["accept_rate"] == 12
            opened = [when for when, _, what, *_ in world.network.trace if what == "serves"]
            for number in range(4, 16):
                due = opened[0] + (number - 3) / 40
                assert due - 0.0001 <= opened[number] < due + 0.002, number

    simulate(scenario)


def test_with_overflow_close_those_who_come_too_soon_are_closed():
    async def scenario(world):
        async with serving(world, accept_rate=10, overflow="close") as running:
            running.expected_errors += REFUSED
            first = await running.connect()
            assert await served(first)
            began = world.now
            turned_away = [await is_turned_away(running) for _ in range(50)]
            # A place each 0.1 s; who has it, says nothing for a second.
            assert turned_away.count(False) <= (world.now - began) * 10 + 1
            refused = running.told.reasons.count(CloseReason.ACCEPT_RATE)
            assert refused == turned_away.count(True) > 20
            await world.sleep(0.11)
            last = await running.connect()
            assert await served(last), "the flood has cost its place"
            for client in (first, last):
                await client.close()

    simulate(scenario)


# -- how much --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 100_000])
@pytest.mark.parametrize("more", [0, 1, 5000])
def test_no_more_than_so_many_bytes_each_way(size, more):
    data = bytes(range(256)) * 500

    async def scenario(world):
        async with serving(world, max_bytes=size) as running:
            running.expected_errors.append("too many bytes")
            async with await running.connect() as client:
                sending = anysock.spawn(send(client, data[: size + more]))
                if not more:
                    await sending.join()
                    await client.send_eof()
                assert await receive_all(client) == data[:size]
                await sending.join()
            await running.until_closed()
            assert bool(running.matching("too many bytes")) == (more > 0)

    simulate(scenario)


def test_no_more_than_so_many_bytes_are_sent():
    async def scenario(world):
        async with serving(world, "chargen", max_bytes=100_000) as running:
            running.expected_errors.append("too many bytes")
            async with await running.connect() as client:
                assert len(await receive_all(client)) == 100_000
            assert running.line("closed the connection from .*: too many bytes")

    simulate(scenario)


@pytest.mark.parametrize(("rate", "size"), [(2_000_000, 1_000_000), (1000, 100_000)])
def test_no_faster_than_the_rate_and_not_much_slower(rate, size):
    async def scenario(world):
        options: dict[str, Any] = {"rate_limit": rate, "idle_timeout": 0, "write_timeout": 0}
        async with serving(world, **options) as running, await running.connect() as client:
            began = world.now
            sending = anysock.spawn(send(client, bytes(size)))
            assert len(await client.recv_exactly(size)) == size
            took = world.now - began
            assert size / rate * 0.9 <= took <= size / rate * 1.05
            await sending.join()

    simulate(scenario)


def test_200_clients_with_64_descriptors_are_all_served():
    async def scenario(world):
        world.host("server").limit_descriptors(64)
        async with serving(world) as running:
            running.expected_errors += REFUSED
            most = int(running.line(r"at most (\d+) connections")[1])
            assert 20 <= most < 64
            clients = [await running.connect() for _ in range(200)]
            for number, client in enumerate(clients):
                await client.send_all(b"%03d" % number)
            await world.sleep(100)
            assert len(running.server.connections) == most
            for number, client in enumerate(clients):
                assert await client.recv_exactly(3) == b"%03d" % number
                await client.close()
            assert not running.matching("can't accept")

    simulate(scenario)
