"""What operations on one stream mean to each other: the table of ``engines/base.py``, under every
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
from anysock.net.limiting import LimitedStream
from tests.test_streams import receive, receive_all, two_ends
from tests.test_tls_stream import tls_ends

KINDS = ("plain", "TLS", "delayed", "limited")

# More than all buffers between two ends take.
BULK = 12_000_000


@contextlib.asynccontextmanager
async def ends(kind: str, pki: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A stream of some kind, and its plain or equal peer."""
    if kind == "TLS":
        async with tls_ends(pki, ssl.TLSVersion.TLSv1_3) as secured:
            yield secured
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
            await near.close()


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
