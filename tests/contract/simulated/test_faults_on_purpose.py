"""Faults on purpose, as a client sees them, and when.

With real clients, once under each engine: `test_faults.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection
from tests.simulation import receive_all, send, serving, simulate

ANSWER = bytes(range(256)) * 8

# How long a segment is on its way there and back.
ROUND_TRIP = 0.0004


async def until_its_end(client: Connection) -> tuple[bytes, bool]:
    """What comes, and whether it ended with a reset."""
    received = bytearray()
    try:
        while chunk := await client.recv():
            received += chunk
    except ConnectionResetError:
        return bytes(received), True
    return bytes(received), False


async def is_silent(client: Connection, seconds: float) -> bool:
    async with anysock.move_on_after(seconds) as scope:
        await client.recv(1)
    return scope.fired


# -- delay -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.3, 30])
def test_an_answer_comes_after_just_the_delay_and_others_are_under_way(delay):
    sent: list[float] = []

    async def say(world, client: Connection) -> None:
        for number in range(40):
            sent.append(world.now)
            await client.send_all(b"%03d" % number)
            await anysock.sleep(delay / 60)

    async def scenario(world):
        async with (
            serving(world, delay=delay, idle_timeout=0) as running,
            await running.connect() as client,
        ):
            saying = anysock.spawn(say(world, client))
            for number in range(40):
                assert await client.recv_exactly(3) == b"%03d" % number
                took = world.now - sent[number]
                assert delay <= took < delay + ROUND_TRIP + 0.001
            await saying.join()

    simulate(scenario)


def test_bulk_through_a_delay_is_whole():
    async def scenario(world):
        async with serving(world, delay=0.02, jitter=0.02, seed=1) as running:
            assert await running.ask(ANSWER * 500) == ANSWER * 500

    simulate(scenario)


def test_a_greeting_is_delayed_too():
    async def scenario(world):
        async with serving(world, "daytime", delay=0.2) as running:
            began = world.now
            async with await running.connect() as client:
                answer = await receive_all(client)
            assert answer == b"Wednesday, January 01, 2020 00:00:00-UTC\r\n"
            assert 0.2 <= world.now - began < 0.21

    simulate(scenario)


def test_what_is_in_the_line_is_still_sent_when_the_server_drains():
    async def scenario(world):
        async with serving(world, delay=0.7) as running, await running.connect() as client:
            await client.send_all(b"late")
            await world.sleep(0.01)
            running.signal()
            assert await receive_all(client) == b"late"
            assert await running.ended() == 0

    simulate(scenario)


def test_a_delay_beyond_the_drain_is_cut_off():
    async def scenario(world):
        async with serving(world, delay=60, drain_timeout=0.5) as running:
            running.expected_errors += ["aborted the connection", "1 connections were aborted"]
            running.expected_code = 1
            async with await running.connect() as client:
                await client.send_all(b"too late")
                await world.sleep(0.01)
                began = world.now
                running.signal()
                assert await until_its_end(client) == (b"", True)
                assert 0.5 <= world.now - began < 0.51
                assert await running.ended() == 1

    simulate(scenario)


# -- throttle and slice ----------------------------------------------------------------------------


def test_throttle_is_no_faster_than_its_rate_and_hardly_slower():
    async def scenario(world):
        async with serving(world, throttle=10_000) as running:
            began = world.now
            assert await running.ask(ANSWER[:1000] * 5) == ANSWER[:1000] * 5
            # What comes in the first tenth of a second may come at once.
            assert 0.4 <= world.now - began < 0.52

    simulate(scenario)


@pytest.mark.parametrize(("size", "rate"), [(10, 400), (1, 5000)])
def test_a_client_that_is_awake_gets_the_slices_one_by_one(size, rate):
    async def scenario(world):
        options: dict[str, Any] = {"slice": size, "throttle": rate, "idle_timeout": 0}
        async with serving(world, **options) as running, await running.connect() as client:
            await client.send_all(ANSWER[:100])
            received: list[bytes] = []
            while sum(len(data) for data in received) < 100:
                received.append(await client.recv())
            assert b"".join(received) == ANSWER[:100]
            assert len(received) >= 0.5 * 100 / size

    simulate(scenario)


# -- ends ------------------------------------------------------------------------------------------

# Behind a delay, another task sends than the handler's own.
DELAYED: dict[str, Any] = {"delay": 0.05, "slice": 300}


@pytest.mark.parametrize("delay", [{}, DELAYED], ids=["", "delayed"])
@pytest.mark.parametrize(("fault", "reset"), [("reset_after", True), ("close_after", False)])
@pytest.mark.parametrize("size", [0, 1, 1000, 2047])
def test_an_end_after_so_many_bytes(delay, fault, reset, size):
    async def scenario(world):
        options = {**delay, fault: size}
        async with serving(world, **options) as running, await running.connect() as client:
            assert await is_silent(client, 0.1)
            await client.send_all(ANSWER)
            assert await until_its_end(client) == (ANSWER[:size], reset)
            await running.until_closed()
            how = "reset" if reset else "closed"
            assert running.line(rf"has ended: lost \({how} on purpose\)")

    simulate(scenario)


@pytest.mark.parametrize("fault", ["reset_after", "close_after"])
def test_an_end_loses_nothing_of_what_came_before_it(fault):
    """To a slow reader: most of it still waits in the server."""

    async def scenario(world):
        options: dict[str, Any] = {fault: 3_000_000}
        async with serving(world, "chargen", **options) as running:
            async with await running.connect() as client:
                received = 0
                with contextlib.suppress(ConnectionResetError):
                    while data := await client.recv(30_000):
                        received += len(data)
                        if received < 200_000:
                            await world.sleep(0.1)
            assert received == 3_000_000

    simulate(scenario)


def test_a_close_in_good_order_while_the_client_still_sends():
    async def scenario(world):
        async with serving(world, close_after=100_000) as running:
            async with await running.connect() as client:
                sending = anysock.spawn(send(client, ANSWER * 50))
                assert await until_its_end(client) == ((ANSWER * 49)[:100_000], False)
                await sending.join()

    simulate(scenario)


# -- corruption ------------------------------------------------------------------------------------


def test_a_share_of_the_answers_is_corrupt_and_the_same_with_the_same_seed():
    def wrong(seed: int) -> list[int]:
        async def scenario(world):
            answers = []
            async with serving(world, corrupt=0.2, seed=seed) as running:
                async with await running.connect() as client:
                    for _ in range(100):
                        await client.send_all(b"right")
                        answers.append(await client.recv_exactly(5))
            return [number for number, got in enumerate(answers) if got != b"right"]

        return simulate(scenario)

    assert 5 <= len(wrong(7)) <= 45
    assert wrong(7) == wrong(7) != wrong(8)


# -- half-open -------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [0.5, 500])
def test_a_dead_connection_is_silent_even_after_a_fin_and_ends_with_the_drain(silent):
    async def scenario(world):
        async with serving(world, half_open=1) as running, await running.connect() as client:
            await client.send_all(b"is anybody there?")
            await client.send_eof()
            assert await is_silent(client, silent)
            running.signal()
            assert await until_its_end(client) == (b"", True)
            assert await running.ended() == 0

    simulate(scenario)


def test_a_dead_connection_ends_with_a_limit():
    async def scenario(world):
        options: dict[str, Any] = {"half_open": 1, "idle_timeout": 0.4, "min_rate": 0}
        async with serving(world, **options) as running:
            clients = [await running.connect() for _ in range(3)]
            for client in clients:
                await client.send_all(b"hello?")
            began = world.now
            for client in clients:
                assert await until_its_end(client) == (b"", True)
                await client.close()
            assert 0.4 <= world.now - began < 0.6
            assert running.told.reasons == [CloseReason.IDLE] * 3

    simulate(scenario)


def test_a_share_of_the_connections_is_dead_and_the_others_are_not():
    async def scenario(world):
        async with serving(world, half_open=0.5, seed=3) as running:
            clients = [await running.connect() for _ in range(40)]
            for client in clients:
                await client.send_all(b"hello")
            alive = [not await is_silent(client, 0.1) for client in clients]
            for client in clients:
                await client.close()
            running.signal()
            assert await running.ended() == 0
        return alive

    alive = simulate(scenario)
    assert 10 < sum(alive) < 30
    assert alive == simulate(scenario)


# -- together --------------------------------------------------------------------------------------


def test_faults_leave_the_others_alone_and_nothing_behind():
    async def scenario(world):
        options: dict[str, Any] = {
            "delay": 0.01,
            "jitter": 0.01,
            "half_open": 0.2,
            "seed": 2,
            "reset_after": 2000,
            "idle_timeout": 0.6,
            "min_rate": 0,
        }
        ends: list[int] = []

        async def talk() -> None:
            try:
                ends.append(len(await running.ask(ANSWER[:1500])))
            except OSError:
                ends.append(-1)

        async with serving(world, **options) as running:
            async with anysock.task_group() as group:
                for _ in range(40):
                    group.spawn(talk())
        assert set(ends) == {-1, 1500}
        assert 1 <= ends.count(-1) <= 20

    simulate(scenario)
