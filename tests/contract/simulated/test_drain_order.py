"""The drain: those who wait for a place, and what comes before it begins.

With real clients, once under each engine: `test_drain.py` and `test_drain_delay.py`.
"""

from __future__ import annotations

import contextlib

import pytest

import anysock
from anysock import Connection
from anysock.server.time_limits import QUIET_SECONDS
from anysock.server.traffic import CHECK_SECONDS
from tests.simulation import Serving, greeted, receive_all, serving, simulate, talk

# -- without descriptors ---------------------------------------------------------------------------


def leave_none(running: Serving) -> None:
    running.expected_errors.append("can't accept a connection: Too many open files")
    running.host.limit_descriptors(running.descriptors())


def test_without_descriptors_nobody_is_waited_for_who_is_not_there():
    """accept(2) says EMFILE whether anybody waits or not."""

    async def scenario(world):
        async with serving(world, drain_timeout=60) as running:
            [client] = await greeted(running)
            await client.close()
            await running.until_closed()
            leave_none(running)
            began = world.now
            running.signal()
            assert await running.ended() == 0
            assert world.now - began < 0.5

    simulate(scenario)


def test_a_handler_that_begins_while_draining_knows_that_from_its_first_step():
    found: list[bool] = []

    async def handler(connection: Connection) -> None:
        found.append(connection.draining)

    async def scenario(world):
        server = world.host("server").serve(handler, bind="tcp://:7")
        await world.sleep(0.1)
        world.host("server").call(server.pause)
        async with await anysock.connect("server:7"):
            await world.sleep(0.1)
            assert found == []
            await server.drain()
            assert found == [True]

    simulate(scenario)


def test_who_waits_for_want_of_descriptors_is_served_while_draining():
    """What nobody can accept when the server stops listening stays in the backlog, until others
    have left."""

    async def scenario(world):
        async with serving(world, drain_timeout=60) as running:
            served = await greeted(running, 2)
            leave_none(running)
            late = [await running.connect() for _ in range(5)]
            for number, client in enumerate(late):
                await client.send_all(b"late %d" % number)
            # (The last segment of the last handshake is on its way yet.)
            await world.sleep(0.1)
            assert running.told.of("accept_failed")
            running.signal()
            for client in served:
                assert await client.recv() == b""
                await client.close()
            for number, client in enumerate(late):
                assert await receive_all(client) == b"late %d" % number
                await client.close()
            assert await running.ended() == 0

    simulate(scenario)


def test_who_waits_for_want_of_descriptors_is_let_go_at_the_deadline():
    async def stay(connection: Connection) -> None:
        await anysock.sleep(600)

    async def scenario(world):
        async with serving(world, stay, drain_timeout=1) as running:
            running.expected_errors.append("abort")
            running.expected_code = 1
            async with await running.connect():
                await running.until(lambda: running.server.connections, "it has come")
                leave_none(running)
                async with await running.connect() as waiting:
                    await running.until(lambda: running.told.of("accept_failed"), "it is told")
                    began = world.now
                    running.signal()
                    assert await running.ended() == 1
                    assert 1 <= world.now - began < 1.01
                    with pytest.raises(ConnectionResetError):
                        await waiting.recv()

    simulate(scenario)


# -- --drain-delay ---------------------------------------------------------------------------------


def test_for_the_delay_it_accepts_and_then_it_refuses():
    async def scenario(world):
        async with serving(world, drain_delay=0.8) as running:
            began = world.now
            running.signal()
            served = 0
            # (Or reset: who was in the middle of the handshake when the socket was closed.)
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                while True:
                    [client] = await greeted(running)
                    await client.close()
                    served += 1
            assert 0.8 <= world.now - began < 0.81
            assert served > 20
            assert running.line(r"not ready any more: draining begins in 0\.8 s")
            assert await running.ended() == 0
            assert running.line(r"draining: \d connections left")

    simulate(scenario)


def test_for_the_delay_those_who_are_connected_notice_nothing():
    async def scenario(world):
        async with serving(world, drain_delay=0.5) as running:
            [quiet] = await greeted(running)
            began = world.now
            running.signal()
            assert await quiet.recv() == b""
            # Quiet is from when the drain looks for it.
            assert 0.5 <= world.now - began <= 0.5 + QUIET_SECONDS + 2 * CHECK_SECONDS
            await quiet.close()
            assert await running.ended() == 0

    simulate(scenario)


def test_the_delay_is_part_of_the_time_out():
    async def scenario(world):
        async with serving(world, drain_delay=0.4, drain_timeout=1) as running:
            running.expected_errors += ["aborted the connection", "1 connections were aborted"]
            running.expected_code = 1
            [endless] = await greeted(running)
            talking = anysock.spawn(talk(endless))
            began = world.now
            running.signal()
            assert await running.ended() == 1
            assert 1 <= world.now - began < 1.01
            assert running.line(r"draining: 1 connections left, for at most 0\.6 s")
            await talking.join()
            await endless.close()

    simulate(scenario)


def test_how_many_are_left_is_told_each_second():
    async def scenario(world):
        async with serving(world, drain_delay=0.1, drain_timeout=9) as running:
            [busy] = await greeted(running)
            talking = anysock.spawn(talk(busy))
            running.signal()
            await world.sleep(3.5)
            talking.cancel()
            with contextlib.suppress(anysock.Cancelled):
                await talking.join()
            await busy.close()
            assert await running.ended() == 0
            left = [match[1] for match in running.matching(r"1 connections left, (\d) s left$")]
            assert left == ["8", "7", "6"]

    simulate(scenario)


def test_a_drain_does_not_wait_for_the_accept_rate():
    """Who is in the backlog would come in one by one, for longer than the drain may take."""

    async def scenario(world):
        async with serving(world, accept_rate=0.01) as running:
            running.expected_errors.append("further clients wait")
            clients = [await running.connect() for _ in range(20)]
            for client in clients:
                await client.send_all(b"hello")
            assert await clients[0].recv_exactly(5) == b"hello"
            await world.sleep(50)
            assert len(running.server.connections) == 1
            began = world.now
            running.signal()
            for client in clients[1:]:
                assert await client.recv_exactly(5) == b"hello"
            assert world.now - began < 0.1
            for client in clients:
                await client.close()
            assert await running.ended() == 0

    simulate(scenario)
