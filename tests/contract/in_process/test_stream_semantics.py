"""What operations on one stream mean to each other: the table of ``engines/stream.py``, under every
engine, and for every stream around a stream."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from anysock.faults.delay import DelayedStream
from anysock.streams.limiting import LimitedStream
from anysock.testing import connection_pair
from tests.contract.in_process.test_streams import close_all, receive, receive_all, two_ends
from tests.contract.in_process.test_tls_stream import tls_ends

KINDS = ("plain", "TLS", "delayed", "limited", "memory")

# More than all buffers between two ends take.
BULK = 12_000_000


@contextlib.asynccontextmanager
async def ends(kind: str, pki: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A stream of some kind, and its plain or equal peer."""
    if kind == "TLS":
        async with tls_ends(pki, ssl.TLSVersion.TLSv1_3) as secured:
            yield secured
        return
    if kind == "memory":
        ours, theirs = connection_pair()
        yield ours.stream, theirs.stream
        return
    async with two_ends(lambda stream: stream) as (inner, far):
        near: Any = inner
        if kind == "delayed":
            near = DelayedStream(inner, 0.001, 0.0, random.Random(1))
        elif kind == "limited":
            near = LimitedStream(inner, current_engine(), most=1 << 40, rate=1e12)
        try:
            yield near, far
        finally:
            await close_all(near, far)


@pytest.fixture(params=KINDS)
def check(request, concurrent_engine, pki):
    def run(checking):
        async def main():
            async with anysock.timeout(30), ends(request.param, pki) as (near, far):
                await checking(near, far)

        anysock.run(main, engine=concurrent_engine)

    return run


async def send_small(stream):
    await stream.send_all(b"B")


async def send_large(stream):
    await stream.send_all(b"B" * BULK)


async def send_eof(stream):
    await stream.send_eof()


async def receive_some(stream):
    await stream.recv()


async def until(condition):
    while not condition():
        await anysock.sleep(0.001)


SENDING = (send_small, send_large, send_eof)
ALL = (*SENDING, receive_some)


# -- the table -----------------------------------------------------------------------------------

# What has happened before to a stream, or happens to it, and what each operation meets then; None:
# it does its work. Each state is entered anew for each operation.
TABLE: dict[str, dict[Any, type[BaseException] | None]] = {
    "nothing": dict.fromkeys(ALL),
    "another sends": {**dict.fromkeys(SENDING, anysock.StreamBusy), receive_some: None},
    "another receives": {**dict.fromkeys(SENDING), receive_some: anysock.StreamBusy},
    "the end was sent": {
        **dict.fromkeys(SENDING, anysock.StreamClosed),
        send_eof: None,
        receive_some: None,
    },
    "a send was given up": {
        **dict.fromkeys(SENDING, anysock.StreamBroken),
        receive_some: None,
    },
    "reset by the peer": dict.fromkeys(ALL, ConnectionError),
    "aborted": dict.fromkeys(ALL, anysock.StreamAborted),
    "closed": dict.fromkeys(ALL, anysock.StreamClosed),
    # Of two reasons the one that comes first in the contract.
    "a send was given up, then reset by the peer": dict.fromkeys(ALL, ConnectionError),
    "reset by the peer, then aborted": dict.fromkeys(ALL, ConnectionError),
    "the end was sent, then aborted": dict.fromkeys(ALL, anysock.StreamAborted),
    "another sends, then aborted": dict.fromkeys(ALL, anysock.StreamAborted),
    "aborted, then closed": dict.fromkeys(ALL, anysock.StreamClosed),
}


async def enter(state, near, far, tasks):
    """Let that happen to `near`. Who is at work on it goes to `tasks`."""
    match state:
        case "another sends":
            tasks.append(anysock.spawn(quietly(near.send_all(b"a" * BULK))))
            await until(lambda: near.sending)
        case "another receives":
            tasks.append(anysock.spawn(quietly(receive_some(near))))
            await until(lambda: near.receiving)
        case "the end was sent":
            await near.send_eof()
        case "a send was given up":
            async with anysock.move_on_after(0.05):
                await near.send_all(b"a" * BULK)
        case "reset by the peer":
            far.abort()
            await far.close()
            await until_lost(near)
        case "aborted":
            near.abort()
        case "closed":
            tasks.append(anysock.spawn(quietly(follow(far))))
            await near.close()


async def follow(far):
    """Close, too, once the other has: over TLS, it waits a moment for that."""
    await receive_all(far)
    await far.close()


async def quietly(operation):
    with contextlib.suppress(OSError, anysock.AnysockError):
        await operation


async def until_lost(near):
    while near.lost is None:
        with contextlib.suppress(OSError, anysock.AnysockError):
            await near.recv()
        with contextlib.suppress(OSError, anysock.AnysockError):
            await near.send_all(b"x")


@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_each_operation_meets(concurrent_engine, pki, kind, state):
    async def one(operation, expected):
        tasks: list[Any] = []
        async with anysock.timeout(30), ends(kind, pki) as (near, far):
            try:
                for each in state.split(", then "):
                    await enter(each, near, far, tasks)
                if expected is not None:
                    with pytest.raises(expected):
                        await operation(near)
                else:
                    # The other end does its part.
                    tasks.append(anysock.spawn(quietly(far.send_all(b"for it"))))
                    if operation is not receive_some:
                        tasks.append(anysock.spawn(quietly(receive_all(far))))
                    await operation(near)
            finally:
                near.abort()
                far.abort()
                for task in tasks:
                    await task.join()

    async def main():
        for operation, expected in TABLE[state].items():
            await one(operation, expected)

    anysock.run(main, engine=concurrent_engine)


# -- and what comes of it --------------------------------------------------------------------------


@pytest.mark.parametrize("second", SENDING, ids=lambda each: each.__name__)
def test_a_second_sender_is_told_so_and_nothing_of_it_is_sent(check, second):
    async def talk(near, far):
        async with anysock.task_group() as group:
            group.spawn(near.send_all(b"a" * BULK))
            await until(lambda: near.sending)
            for _ in range(3):
                with pytest.raises(anysock.StreamBusy):
                    await second(near)
                await anysock.sleep(0)
            assert await receive(far, BULK) == b"a" * BULK
        assert near.lost is None
        await near.send_all(b"then")
        assert await receive(far, 4) == b"then"

    check(talk)


def test_a_second_receiver_is_told_so_and_takes_nothing(check):
    async def talk(near, far):
        async with anysock.task_group() as group:
            first = group.spawn(receive(near, 9))
            await until(lambda: near.receiving)
            for _ in range(3):
                with pytest.raises(anysock.StreamBusy):
                    await receive_some(near)
                await anysock.sleep(0)
            await far.send_all(b"the first")
            assert await first.join() == b"the first"
        assert near.lost is None

    check(talk)


def test_one_may_send_while_another_receives(check):
    async def talk(near, far):
        async with anysock.task_group() as group:
            first = group.spawn(receive(near, 5))
            await until(lambda: near.receiving)
            await near.send_all(b"hello")
            await far.send_all(await receive(far, 5))
            assert await first.join() == b"hello"

    check(talk)


def test_who_was_told_of_an_end_on_our_side_gets_nothing_after_it(check):
    """Linux hands out what comes after a shutdown for receiving: a handler that the server has
    ended would be told of the end, and then of more."""

    async def talk(near, far):
        await far.send_all(b"before")
        assert await near.recv() == b"before"
        near.end_receiving()
        assert await near.recv() == b""
        with contextlib.suppress(OSError):
            await far.send_all(b"after")
        await anysock.sleep(0.02)
        assert await near.recv() == b""
        assert await near.recv(3) == b""

    check(talk)


def test_nothing_is_sent_after_the_end_of_our_stream(check):
    async def talk(near, far):
        await near.send_all(b"all")
        await near.send_eof()
        for again in (send_small, send_eof, send_large, send_small):
            if again is send_eof:
                await near.send_eof()
                continue
            with pytest.raises(anysock.StreamClosed):
                await again(near)
        assert near.lost is None
        async with anysock.task_group() as group:
            group.spawn(far.send_all(b"back"))
            assert await receive(near, 4) == b"back"
        assert await receive_all(far) == b"all"

    check(talk)


@pytest.mark.parametrize("operation", ALL, ids=lambda each: each.__name__)
def test_after_a_close_it_is_closed(check, operation):
    async def talk(near, far):
        await far.send_all(b"unread")
        closing = anysock.spawn(near.close())
        await receive_all(far)
        await far.close()
        await closing.join()
        for _ in range(2):
            with pytest.raises(anysock.StreamClosed):
                await operation(near)
        await near.close()

    check(talk)


@pytest.mark.parametrize("operation", ALL, ids=lambda each: each.__name__)
def test_after_an_abort_it_is_aborted_whoever_waited(check, operation):
    async def talk(near, far):
        await far.send_all(b"unread")
        near.abort()
        for _ in range(2):
            with pytest.raises(anysock.StreamAborted):
                await operation(near)
        assert isinstance(near.lost, anysock.StreamAborted)
        near.abort()
        await near.close()
        with pytest.raises(anysock.StreamClosed):
            await operation(near)

    check(talk)


@pytest.mark.parametrize("operation", [send_large, receive_some], ids=lambda each: each.__name__)
def test_an_abort_wakes_who_waits(check, operation):
    async def talk(near, far):
        waiting = anysock.spawn(operation(near))
        await until(lambda: near.sending or near.receiving)
        near.abort()
        with pytest.raises(anysock.StreamAborted):
            await waiting.join()
        assert isinstance(near.lost, anysock.StreamAborted)

    check(talk)


def test_receives_that_are_given_up_lose_nothing(check):
    async def talk(near, far):
        sent = bytes(range(256)) * 400
        got = b""
        async with anysock.task_group() as group:
            group.spawn(far.send_all(sent))
            for _ in range(60):
                async with anysock.move_on_after(0):
                    got += await near.recv(100)
                assert near.bytes_received >= len(got)
            while len(got) < len(sent):
                got += await near.recv()
        assert got == sent

    check(talk)


def test_a_send_that_is_given_up_has_sent_nothing_or_is_told_as_broken(check):
    async def talk(near, far):
        sent, broken = [], False
        for number in range(60):
            record = b"%09d\n" % number
            while True:
                async with anysock.move_on_after(0) as scope:
                    try:
                        await near.send_all(record)
                    except anysock.StreamBroken:
                        broken = True
                        break
                    sent.append(record)
                if not scope.fired or sent[-1:] == [record]:
                    break
            if broken:
                break
        if not broken:
            await near.send_eof()
            assert await receive_all(far) == b"".join(sent)

    check(talk)


def test_data_that_is_there_is_received_though_the_deadline_is_over():
    async def main():
        async with two_ends(lambda stream: stream) as (near, far):
            await near.send_all(b"here")
            async with anysock.move_on_after(0.1):
                await anysock.sleep(1)
            received = b""
            async with anysock.move_on_after(0):
                received = await far.recv()
            assert received == b"here"

    anysock.run(main, engine="threads")
