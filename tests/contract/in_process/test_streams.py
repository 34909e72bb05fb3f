"""What every `Stream` must do, and every `Connection` over one, whatever the engine.

Two ends of one connection, in one process, checked for what the contract in
``engines/stream.py`` says, corner by corner.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from anysock.faults.compose import Chance, faults_of
from anysock.options.serve import ServeOptions
from anysock.testing import connection_pair
from tests.harness import LOOPBACK

BULK = 3_000_000

Check = Callable[[Any, Any], Awaitable[None]]


@contextlib.asynccontextmanager
async def in_memory(wrap: Callable[[Any], Any]) -> AsyncIterator[tuple[Any, Any]]:
    near, far = connection_pair()
    yield wrap(near.stream), wrap(far.stream)
    await close_all(near, far)


@contextlib.asynccontextmanager
async def two_ends(wrap: Callable[[Any], Any]) -> AsyncIterator[tuple[Any, Any]]:
    engine = current_engine()
    [listener] = engine.listen([LOOPBACK], 10)
    near = await engine.connect(socket.AF_INET, listener.addresses[0])
    far = await engine.accept(listener)
    listener.close()
    ends = wrap(near), wrap(far)
    try:
        yield ends
    finally:
        await close_all(*ends)


async def close_all(*streams: Any) -> None:
    """Close them at the same time: a close waits for that of the peer, for up to a second."""
    async with anysock.task_group() as group:
        for stream in streams:
            group.spawn(stream.close())


async def receive(stream: Any, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await stream.recv()
        assert data, f"the stream ended after {len(received)} of {size} bytes"
        received += data
    return bytes(received)


async def receive_all(stream: Any) -> bytes:
    received = bytearray()
    while data := await stream.recv():
        received += data
    return bytes(received)


# Each fault that leaves the bytes as they are, and all of them around each other.
FAULTS = ServeOptions(
    delay=0.002,
    jitter=0.001,
    throttle=1e9,
    slice=65536,
    close_after=1 << 30,
    reset_after=1 << 30,
    corrupt=1e-9,
    fail_on="boom",
    seed=1,
)


def with_faults(stream: Any) -> Any:
    for make in faults_of(FAULTS, Chance(1, 1)):
        stream = make(stream)
    return stream


WRAPS: dict[str, Callable[[Any], Any]] = {
    "stream": lambda stream: stream,
    "connection": anysock.Connection,
    "faults": with_faults,
}

# Each over sockets, and over a connection in memory.
ENDS = {
    **{name: (two_ends, wrap) for name, wrap in WRAPS.items()},
    **{f"memory-{name}": (in_memory, wrap) for name, wrap in WRAPS.items() if name != "connection"},
}


@pytest.fixture(params=ENDS)
def check(request, concurrent_engine):
    """Run ``check(near, far)`` with two ends, as streams, as connections, and as streams with
    faults, which keep to the contract as well; over sockets and in memory."""
    ends, wrap = ENDS[request.param]

    def run(checking: Check) -> None:
        async def main() -> None:
            async with anysock.timeout(20), ends(wrap) as (near, far):
                await checking(near, far)

        anysock.run(main, engine=concurrent_engine)

    return run


def test_both_ways(check):
    async def talk(near, far):
        await near.send_all(b"ping")
        assert await receive(far, 4) == b"ping"
        await far.send_all(b"pong")
        assert await receive(near, 4) == b"pong"

    check(talk)


def test_the_ends_know_each_other(check):
    async def talk(near, far):
        assert near.local == far.peer
        assert near.peer == far.local

    check(talk)


def test_a_receive_waits_for_data_and_keeps_to_its_limit(check):
    async def talk(near, far):
        async def later():
            await anysock.sleep(0.01)
            await near.send_all(b"0123456789")

        async with anysock.task_group() as group:
            group.spawn(later())
            got = [await far.recv(3)]
            while sum(map(len, got)) < 10:
                got.append(await far.recv(3))
        assert all(1 <= len(data) <= 3 for data in got)
        assert b"".join(got) == b"0123456789"

    check(talk)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_can_be_sent(check, kind):
    async def talk(near, far):
        await near.send_all(kind(b"some bytes"))
        assert await receive(far, 10) == b"some bytes"

    check(talk)


def test_nothing_can_be_sent_too(check):
    async def talk(near, far):
        await near.send_all(b"")
        await near.send_all(b"x")
        assert await receive(far, 1) == b"x"

    check(talk)


def test_bulk_in_both_directions_at_once(check):
    async def talk(near, far):
        there, back = b"there" * (BULK // 5), b"back!" * (BULK // 5)
        got = {}

        async def receive_into(name, stream):
            got[name] = await receive(stream, BULK)

        async with anysock.task_group() as group:
            group.spawn(near.send_all(there))
            group.spawn(far.send_all(back))
            group.spawn(receive_into("near", near))
            group.spawn(receive_into("far", far))
        assert got == {"near": back, "far": there}
        # A delayed stream's `send_all` returns when all is on the line; its `close`, when all has
        # left and is counted: the peer may have the last of it before that.
        async with anysock.task_group() as group:
            group.spawn(near.close())
            group.spawn(far.close())
        assert (near.bytes_sent, far.bytes_received) == (BULK, BULK)
        assert (far.bytes_sent, near.bytes_received) == (BULK, BULK)

    check(talk)


def test_a_sender_waits_for_a_peer_that_does_not_read(check):
    async def talk(near, far):
        done = False

        async def send():
            nonlocal done
            await near.send_all(bytes(10 * BULK))
            done = True

        async with anysock.task_group() as group:
            group.spawn(send())
            await anysock.sleep(0.05)
            assert not done
            await receive(far, 10 * BULK)
        assert done

    check(talk)


def test_it_is_known_what_is_kept_for_a_peer_that_does_not_read(check):
    async def talk(near, far):
        little = 1000  # the session tickets of TLS, which nobody has received
        assert near.held + far.held < little
        sending = anysock.spawn(near.send_all(bytes(2 * BULK)))
        while near.held < 65536:
            await anysock.sleep(0.001)
        assert len(await receive(far, 2 * BULK)) == 2 * BULK
        await sending.join()
        while near.held + far.held >= little:
            await anysock.sleep(0.001)

    check(talk)


def test_a_half_close_ends_one_direction_only(check):
    async def talk(near, far):
        await near.send_all(b"the last word")
        await near.send_eof()
        assert await receive_all(far) == b"the last word"
        assert await far.recv() == b"", "the end of a stream stays"
        await far.send_all(b"an answer")
        await far.send_eof()
        assert await receive_all(near) == b"an answer"

    check(talk)


def test_what_is_sent_after_the_end_is_an_error_and_no_silence(check):
    async def talk(near, far):
        await near.send_eof()
        with pytest.raises((OSError, anysock.AnysockError)):
            for _ in range(3):
                await near.send_all(b"more")

    check(talk)


def test_a_close_is_an_end_for_the_peer(check):
    async def talk(near, far):
        await near.send_all(b"bye")
        await near.close()
        assert await receive_all(far) == b"bye"

    check(talk)


def test_a_close_may_be_repeated_and_nothing_works_after_it(check):
    async def talk(near, far):
        await near.close()
        await near.close()
        with pytest.raises(anysock.StreamClosed):
            await near.recv()
        with pytest.raises(anysock.StreamClosed):
            await near.send_all(b"x")
        with pytest.raises(anysock.StreamClosed):
            await near.send_eof()

    check(talk)


def test_a_receive_that_is_given_up_loses_nothing(check):
    async def talk(near, far):
        sent = b"".join(b"%05d" % number for number in range(2000))
        received = bytearray()

        async def send():
            for start in range(0, len(sent), 50):
                await near.send_all(sent[start : start + 50])
                if start % 500 == 0:
                    await anysock.sleep(0.0005)

        async with anysock.task_group() as group:
            group.spawn(send())
            while len(received) < len(sent):
                async with anysock.move_on_after(0.0003):
                    received += await far.recv()
        assert received == sent

    check(talk)


def test_a_receive_that_is_given_up_as_its_bytes_arrive_loses_none(check):
    async def talk(near, far):
        async def send_and_block():
            await near.send_all(b"0123456789")
            time.sleep(0.03)  # so the deadline and the bytes are due in the same turn

        received = bytearray()
        async with anysock.task_group() as group:
            group.spawn(send_and_block())
            async with anysock.move_on_after(0.01):
                received += await far.recv()
            while len(received) < 10:
                received += await far.recv(3)
        assert received == b"0123456789"

    check(talk)


def test_a_receive_that_is_given_up_as_a_reset_arrives_hides_no_reset(check):
    async def talk(near, far):
        async def abort_and_block():
            near.abort()
            await near.close()
            time.sleep(0.03)

        async with anysock.task_group() as group:
            group.spawn(abort_and_block())
            with pytest.raises(ConnectionResetError):
                async with anysock.move_on_after(0.01):
                    await far.recv()
                await far.recv()

    check(talk)


def test_an_abort_is_a_reset_for_the_peer(check):
    async def talk(near, far):
        near.abort()
        near.abort()
        with pytest.raises(ConnectionAbortedError):
            await near.recv()
        await near.close()
        with pytest.raises(ConnectionResetError):
            await receive_all(far)

    check(talk)


def test_an_abort_wakes_who_waits(check):
    async def talk(near, far):
        told = []

        async def wait(coro):
            try:
                await coro
            except ConnectionAbortedError:
                told.append("aborted")

        async with anysock.task_group() as group:
            group.spawn(wait(near.recv()))
            group.spawn(wait(near.send_all(bytes(10 * BULK))))
            await anysock.sleep(0.05)
            near.abort()
        assert told == ["aborted", "aborted"]

    check(talk)


def test_a_peer_that_resets_is_a_connection_error_at_every_call(check):
    async def talk(near, far):
        await near.send_all(b"x")
        far.abort()
        await far.close()
        with pytest.raises(ConnectionError):
            while await near.recv():
                pass
        with pytest.raises((OSError, anysock.AnysockError)):
            for _ in range(3):
                await near.send_all(b"y")

    check(talk)


def test_receiving_can_be_ended_from_elsewhere(concurrent_engine):
    async def main():
        async with anysock.timeout(20), two_ends(lambda stream: stream) as (near, far):
            await near.send_all(b"what has arrived")
            assert await receive(far, 16) == b"what has arrived"
            ended = []

            async def wait():
                ended.append(await far.recv())

            async with anysock.task_group() as group:
                group.spawn(wait())
                while not far.receiving:
                    await anysock.sleep(0.001)
                far.end_receiving()
            assert ended == [b""]
            assert not far.receiving
            await far.send_all(b"sending goes on")
            assert await receive(near, 15) == b"sending goes on"

    anysock.run(main, engine=concurrent_engine)
