"""A stream that moves no more than so many bytes, and so many a second: over a fake stream, under a
clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.blocking.tasks import run_to_its_end
from anysock.errors import StreamBroken, StreamBusy
from anysock.streams.limiting import LimitedStream, TooManyBytes
from tests.no_socket import NoSocket


class FakeEngine:
    """A clock; its sleeps take longer than they should by what the test says."""

    def __init__(self, late: list[float] | None = None) -> None:
        self.clock = 100.0
        self.late = late or []
        self.longest = 0.0
        self.gives_up: type[BaseException] | None = None

    def now(self) -> float:
        return self.clock

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        if self.gives_up is not None:
            raise self.gives_up
        self.longest = max(self.longest, seconds)
        self.clock += seconds + (self.late.pop() if self.late else 0)


class FakeStream(NoSocket):
    """Hands out `data` in chunks of the sizes in `cuts`, and then the end of the stream."""

    def __init__(
        self, engine: FakeEngine, data: bytes = b"", cuts: list[int] | None = None
    ) -> None:
        self.engine = engine
        self.data = data
        self.cuts = cuts or []
        self.sent = bytearray()
        self.asked: list[int] = []
        #: When how many bytes have moved.
        self.received_at: list[tuple[float, int]] = []
        self.sent_at: list[tuple[float, int]] = []
        self.lost = None
        self.fails: BaseException | None = None
        self.recv_size = 0

    def set_recv_size(self, max_bytes: int) -> None:
        self.recv_size = max_bytes

    async def recv(self, max_bytes: int | None = None) -> bytes:
        assert max_bytes is not None
        assert max_bytes > 0
        self.asked.append(max_bytes)
        size = min(self.cuts.pop() if self.cuts else max_bytes, max_bytes)
        chunk, self.data = self.data[:size], self.data[size:]
        self.received_at.append((self.engine.clock, len(chunk)))
        return chunk

    async def send_all(self, data: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent += data
        self.sent_at.append((self.engine.clock, len(data)))


def limited(data: bytes = b"", *, cuts=None, late=None, **limits) -> tuple[LimitedStream, Any, Any]:
    engine = FakeEngine(late)
    stream = FakeStream(engine, data, cuts)
    return LimitedStream(stream, engine, **limits), stream, engine  # type: ignore[arg-type]


async def receive_all(stream: LimitedStream, sizes: list[int | None] | None = None) -> bytes:
    received = bytearray()
    while data := await stream.recv(sizes.pop() if sizes else None):
        received += data
    return bytes(received)


def run(coro: Coroutine[Any, Any, Any]) -> Any:
    return run_to_its_end(coro)


def excess(moved: list[tuple[float, int]], rate: float) -> float:
    """By how many bytes the busiest window of time exceeds ``rate * its seconds``."""
    worst = 0.0
    for first in range(len(moved)):
        total = 0
        for at, size in moved[first:]:
            total += size
            worst = max(worst, total - rate * (at - moved[first][0]))
    return worst


def may_exceed(rate: float) -> float:
    """A tenth of a second's, or a byte at once and one that is made up for."""
    return max(rate / 10, 1 + rate / 20) * (1 + 1e-9) + 1e-6


datas = st.binary(max_size=400) | st.integers(0, 200_000).map(lambda size: b"x" * size)
sizes = st.lists(st.integers(1, 100_000), max_size=30)
rates = st.floats(1, 1e9)
lates = st.lists(st.floats(0, 5), max_size=30)


@given(datas, sizes, sizes, st.integers(1, 300_000))
def test_no_more_than_so_many_are_received_and_these_unchanged(data, cuts, asked, most):
    stream, _, _ = limited(data, cuts=cuts, most=most)
    assert run(receive_all(stream, list(asked))) == data[:most]
    assert isinstance(stream.lost, TooManyBytes) == (len(data) > most)
    assert run(stream.recv()) == b"", "and it stays so"


@given(st.lists(datas, max_size=6), st.integers(1, 300_000))
def test_no_more_than_so_many_are_sent_and_these_unchanged(chunks, most):
    stream, inner, _ = limited(most=most)
    data = b"".join(chunks)

    async def send() -> None:
        for chunk in chunks:
            await stream.send_all(chunk)

    if len(data) > most:
        with pytest.raises(TooManyBytes) as caught:
            run(send())
        assert stream.lost is caught.value, "so that the server knows it for the end that it is"
        with pytest.raises(TooManyBytes):
            run(stream.send_all(b"x"))
    else:
        run(send())
        assert stream.lost is None
    assert bytes(inner.sent) == data[:most]


@pytest.mark.parametrize("most", [1, 2, 65_535, 65_536, 65_537])
def test_the_end_of_the_stream_right_at_the_limit_is_a_good_end(most):
    stream, _, _ = limited(b"x" * most, most=most)
    assert len(run(receive_all(stream))) == most
    run(stream.send_all(b"x" * most))
    run(stream.send_all(b""))
    assert stream.lost is None


@given(datas, sizes, rates, lates)
def test_data_come_no_faster_than_the_rate_in_any_window_and_unchanged(data, cuts, rate, late):
    data = data[: int(rate * 100)]  # or a byte a second would take many steps
    stream, inner, engine = limited(data, cuts=cuts, late=late, rate=rate)
    assert run(receive_all(stream)) == data
    assert excess(inner.received_at, rate) <= may_exceed(rate)
    assert engine.longest <= max(0.05, 1 / rate) * 1.0001, "a drain would have to wait for it"


@given(st.lists(datas, max_size=4), rates, lates)
def test_data_go_no_faster_than_the_rate_in_any_window_and_unchanged(chunks, rate, late):
    chunks = [chunk[: int(rate * 50)] for chunk in chunks]
    stream, inner, engine = limited(late=late, rate=rate)
    for chunk in chunks:
        run(stream.send_all(chunk))
    assert bytes(inner.sent) == b"".join(chunks)
    assert excess(inner.sent_at, rate) <= may_exceed(rate)
    assert engine.longest <= max(0.05, 1 / rate) * 1.0001


@given(rate=st.floats(1000, 1e9), late=st.floats(0, 0.03))
def test_the_rate_is_reached_though_each_sleep_takes_longer_than_it_should(rate, late):
    size = int(min(rate * 2, 3e6))
    stream, _inner, engine = limited(late=[late] * 100_000, rate=rate)
    began = engine.clock
    run(stream.send_all(b"x" * size))
    assert size / rate * 0.999 - 0.1 <= engine.clock - began <= size / rate * 1.01 + 0.1


@given(st.integers(1, 2**40), st.sampled_from([None, 1000]))
def test_a_receive_asks_for_no_more_memory_than_is_usual(most, recv_size):
    """Python hands out as much memory as is asked for, and then shrinks it."""
    stream, inner, _ = limited(b"x" * 70_000, most=most, rate=1e12)
    if recv_size is not None:
        stream.set_recv_size(recv_size)
        assert inner.recv_size == recv_size
    run(receive_all(stream))
    assert max(inner.asked) <= (recv_size or 65_536)


@given(st.integers(1, 100))
def test_no_more_is_received_than_was_asked_for(asked):
    stream, _, _ = limited(b"x" * 1000, most=10_000)
    assert len(run(stream.recv(asked))) == asked


class GivenUp(BaseException):
    """A cancellation."""


def test_a_send_that_is_cancelled_between_two_pieces_breaks_the_stream():
    """The peer would take what came next for the rest of it."""
    stream, inner, engine = limited(rate=100)
    engine.gives_up = GivenUp
    with pytest.raises(GivenUp):
        run(stream.send_all(b"x" * 100))
    assert 0 < len(inner.sent) < 100
    engine.gives_up = None
    with pytest.raises(StreamBroken):
        run(stream.send_all(b"y"))


def test_a_send_that_is_cancelled_before_its_first_byte_breaks_nothing():
    stream, inner, engine = limited(rate=100)
    run(stream.send_all(b"x" * 100))
    engine.gives_up = GivenUp
    with pytest.raises(GivenUp):
        run(stream.send_all(b"lost"))
    engine.gives_up = None
    run(stream.send_all(b"y"))
    assert inner.sent.endswith(b"xy")


def test_two_tasks_that_send_at_once_are_not_mixed_up():
    async def main() -> None:
        stream, inner, engine = limited(rate=1000)

        async def sleep(seconds: float) -> None:
            engine.clock += seconds
            await asyncio.sleep(0)

        engine.sleep = sleep
        first = asyncio.create_task(stream.send_all(b"x" * 1000))
        await asyncio.sleep(0)
        with pytest.raises(StreamBusy):
            await stream.send_all(b"y" * 1000)
        await first
        assert inner.sent == b"x" * 1000
        inner.data = b"z" * 1000
        await stream.recv()
        await stream.recv()  # what was to be made up for is made up for
        receiver = asyncio.create_task(stream.recv())
        await asyncio.sleep(0)
        with pytest.raises(StreamBusy):
            await stream.recv()
        assert await receiver

    asyncio.run(main(), debug=False)
