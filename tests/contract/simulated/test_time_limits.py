"""The limits of time: who is ended, when, and as what.

Each of them once under each engine, for comparison: `test_limits.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection
from anysock.server.housekeeping import SETTLE_SECONDS
from anysock.server.time_limits import CHECKS_PER_LIMIT
from tests.simulation import Serving, serving, simulate


async def until_its_end(client: Connection) -> tuple[int, bool]:
    """How many bytes come to one that takes its time, and whether they end with a reset."""
    received = 0
    try:
        while data := await client.recv():
            received += len(data)
            await anysock.sleep(0.01)
    except ConnectionResetError:
        return received, True
    return received, False


def ends(running: Serving) -> list[tuple[CloseReason, float]]:
    """Why each connection has ended, and after how many seconds."""
    closed = running.told.of("connection_closed")
    return [(reason, connection.lasted or 0.0) for connection, reason, _ in closed]


def is_due(lasted: float, limit: float, shortest: float | None = None) -> bool:
    """Whether it has lasted just as long as a limit of so many seconds lets it, and a quarter more
    (of the `shortest` of the limits) at the most: what moves is seen at the next look, and what
    does not for too long at another. Who is silent is given a moment then."""
    look = (shortest or limit) / CHECKS_PER_LIMIT
    return limit - 0.001 <= lasted <= limit + 2 * look + SETTLE_SECONDS + 0.001


LIMITS: dict[CloseReason, dict[str, Any]] = {
    CloseReason.IDLE: {"idle_timeout": 0.4},
    CloseReason.WRITE_TIMEOUT: {"write_timeout": 0.3},
    CloseReason.TOO_SLOW: {"idle_timeout": 0.5, "min_rate": 100},
    CloseReason.LIFETIME: {"max_lifetime": 0.3},
}


@pytest.mark.parametrize("handler", ["echo", "chargen"])
@pytest.mark.parametrize("scale", [1, 1000])
def test_a_peer_that_does_not_read_is_told_as_that(handler, scale):
    """Whether it is sent more than it asked for, or its echo."""

    async def scenario(world):
        limit = 0.3 * scale
        async with serving(world, handler, write_timeout=limit) as running:
            running.expected_errors.append("write timeout")
            async with await running.connect() as client:
                with contextlib.suppress(ConnectionError):
                    await client.send_all(bytes(50_000_000) if handler == "echo" else b"")
                await running.until_closed()
                [(reason, lasted)] = ends(running)
                assert reason is CloseReason.WRITE_TIMEOUT
                assert is_due(lasted, limit)
                with pytest.raises(ConnectionResetError):
                    while await client.recv():
                        pass
            assert running.line(r"closed the connection from \S+10\.0\.0\.1.*: write timeout")

    simulate(scenario)


@pytest.mark.parametrize("limit", [0.4, 400])
def test_an_idle_connection_is_ended_and_a_busy_one_is_not(limit):
    async def scenario(world):
        async with serving(world, idle_timeout=limit, min_rate=0) as running:
            idle, busy = [await running.connect() for _ in range(2)]
            for client in (idle, busy):
                await client.send_all(b"hello")
                assert await client.recv_exactly(5) == b"hello"
            for _ in range(6):
                await world.sleep(limit / 4)
                await busy.send_all(b"x")
                assert await busy.recv_exactly(1) == b"x"
            [(reason, lasted)] = ends(running)
            assert reason is CloseReason.IDLE
            assert is_due(lasted, limit)
            assert await idle.recv() == b""
            assert running.line("has ended: idle for too long")
            await busy.send_all(b"still here")
            assert await busy.recv_exactly(10) == b"still here"
            for client in (idle, busy):
                await client.close()

    simulate(scenario)


def test_who_sends_a_byte_now_and_then_is_not_idle_but_too_slow():
    async def scenario(world):
        async with serving(world, idle_timeout=0.5, min_rate=100) as running:
            running.expected_errors.append("too slow")
            async with await running.connect() as client:
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while not running.told.reasons:
                        await client.send_all(b"x")
                        sent += 1
                        await world.sleep(0.1)
                assert sent > 3
            [(reason, lasted)] = ends(running)
            assert reason is CloseReason.TOO_SLOW
            assert is_due(lasted, 0.5)
            assert running.line("closed the connection from .*: too slow")

    simulate(scenario)


@pytest.mark.parametrize("handler", ["echo", "chargen"])
def test_a_lifetime_has_an_end(handler):
    """In good order: with the end of the stream, and nothing lost before it."""

    async def scenario(world):
        async with serving(world, handler, max_lifetime=0.3) as running:
            running.expected_errors.append("end of its lifetime")
            async with await running.connect() as client:
                received, was_reset = await until_its_end(client)
            assert not was_reset
            assert received % 74 == 0
            assert (received > 0) == (handler == "chargen")
            [(reason, lasted)] = ends(running)
            assert reason is CloseReason.LIFETIME
            assert is_due(lasted, 0.3)
            assert running.line("closed the connection from .*: end of its lifetime")

    simulate(scenario)


def test_each_ends_whom_it_is_for():
    """All at once, beside one that does nothing wrong, and that only its lifetime ends."""

    async def handler(connection: Connection) -> None:
        async for chunk in connection:
            await connection.send_all(bytes(5_000_000) if chunk == b"!" else chunk)

    async def talk(world, client: Connection, say: bytes, every: float) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await client.send_all(say)
                await world.sleep(every)
                if say != b"!" and not await client.recv():
                    break

    async def scenario(world):
        options = {"idle_timeout": 0.4, "write_timeout": 0.2, "min_rate": 150, "max_lifetime": 1.2}
        async with serving(world, handler, **options) as running:
            running.expected_errors.append("closed the connection")
            talking = [("silent", b"hello", 9), ("drips", b"x", 0.1), ("does not read", b"!", 9)]
            talking.append(("good", b"x" * 100, 0.02))
            peers = {}
            async with anysock.task_group() as group:
                for name, say, every in talking:
                    client = await running.connect()
                    peers[client.local] = name
                    group.spawn(talk(world, client, say, every))
            await running.until_closed(4)
            closed = running.told.of("connection_closed")
            return {peers[each.peer]: (reason, each.lasted) for each, reason, _ in closed}

    found = simulate(scenario)
    for name, reason, limit in (
        ("silent", CloseReason.IDLE, 0.4),
        ("drips", CloseReason.TOO_SLOW, 0.4),
        ("does not read", CloseReason.WRITE_TIMEOUT, 0.2),
        ("good", CloseReason.LIFETIME, 1.2),
    ):
        assert found[name][0] is reason
        assert is_due(found[name][1], limit, 0.2), name


@pytest.mark.parametrize("handler", ["stubborn", "chargen"])
def test_who_takes_no_notice_of_the_end_of_its_stream_is_aborted(handler):
    """A handler that does not end, and a peer that does not read."""

    async def stubborn(connection: Connection) -> None:
        await connection.recv()
        await anysock.sleep(600)

    async def scenario(world):
        async with (
            serving(
                world, {"stubborn": stubborn}.get(handler, handler), idle_timeout=0.2
            ) as running,
            await running.connect() as client,
        ):
            await client.send_all(b"x")
            await running.until_closed()
            [(reason, lasted)] = ends(running)
            assert reason is CloseReason.IDLE
            # What is left after as long as a limit of idleness, again, is aborted.
            assert is_due(lasted, 0.4, 0.2) if handler == "stubborn" else is_due(lasted, 0.2)
            assert running.line("has ended: idle for too long")

    simulate(scenario)


def test_0_is_no_limit():
    async def scenario(world):
        none = {"idle_timeout": 0, "min_rate": 0, "write_timeout": 0, "max_lifetime": 0}
        async with serving(world, **none) as running, await running.connect() as client:
            for _ in range(3):
                await world.sleep(1000)
                await client.send_all(b"hello")
                assert await client.recv_exactly(5) == b"hello"

    simulate(scenario)


def test_who_sent_while_the_process_was_stopped_is_not_idle():
    """A container that is frozen (cgroup v2, cgroup.freeze) is stopped like this, as one looks at a
    process under a debugger."""

    async def scenario(world):
        async with serving(world, idle_timeout=0.5, min_rate=0) as running:
            clients = [await running.connect() for _ in range(10)]
            for _ in range(2):
                for client in clients:
                    await client.send_all(b"before")
                    assert await client.recv_exactly(6) == b"before"
                await world.sleep(0.1)  # until a look has seen that
                running.host.stall(0.7)  # longer than the limit
                *quick, slow = clients
                for client in quick:
                    await client.send_all(b"meanwhile")
                for client in quick:
                    assert await client.recv_exactly(9) == b"meanwhile"
                # Nor is one who was silent meanwhile: nobody knows whether he was.
                await world.sleep(0.2)
                await slow.send_all(b"after")
                assert await slow.recv_exactly(5) == b"after"
            # Who stays silent from now on has had its time all the same.
            for client in clients:
                assert await client.recv() == b""
                await client.close()
            assert {reason for reason, _ in ends(running)} == {CloseReason.IDLE}

    simulate(scenario)


@pytest.mark.parametrize("reason", LIMITS, ids=str)
def test_they_hold_while_draining(reason):
    """The drain would wait for an hour."""

    async def busy(connection: Connection) -> None:
        """Is not at rest when the drain begins, whatever its peer does."""
        await connection.recv()
        if reason is CloseReason.WRITE_TIMEOUT:
            await connection.send_all(bytes(5_000_000))
        if reason is CloseReason.TOO_SLOW:
            while await connection.recv():
                pass
        else:
            await anysock.sleep(3000)

    async def scenario(world):
        limits = {"drain_timeout": 3600, **LIMITS[reason]}
        async with serving(world, busy, **limits) as running:
            running.expected_errors.append("closed the connection")
            async with await running.connect() as client:
                await client.send_all(b"x")
                await running.until(lambda: running.server.connections, "it has come")
                began = world.now
                draining = world.host("server").spawn(running.server.drain())
                if reason is CloseReason.TOO_SLOW:
                    with contextlib.suppress(ConnectionError):
                        while running.server.connections:
                            await client.send_all(b"x")
                            await world.sleep(0.1)
                assert await draining.join() == 0
                assert world.now - began < 11
                assert running.told.reasons == [reason]

    simulate(scenario)
