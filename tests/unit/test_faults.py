"""Faults on purpose, around a stream of the test's own, by a clock of the test's own."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anysock
from anysock.engines.base import Data, Stream
from anysock.engines.current import current_engine
from anysock.errors import StreamAborted, StreamBroken, StreamBusy, StreamClosed
from anysock.faults import _OPTIONS, with_faults
from anysock.faults.close_after import CloseAfter
from anysock.faults.compose import Chance, faults_of
from anysock.faults.corrupt import CorruptStream
from anysock.faults.delay import CAPACITY, DelayedStream
from anysock.faults.ending import EndOnPurpose
from anysock.faults.half_open import HalfOpenStream
from anysock.faults.reset_after import ResetAfter
from anysock.faults.slice import SlicedStream
from anysock.faults.throttle import ThrottledStream
from anysock.faults.timed import TimedStream
from anysock.handlers import prepare
from anysock.options.serve import ServeOptions
from anysock.server.session import Session
from anysock.server.time_limits import TimeLimits
from anysock.streams.connection import Connection
from tests.no_socket import NoSocket
from tests.simulation import run_exactly


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return run_exactly(main())


class Wire(NoSocket):
    """The stream inside: writes down what is sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.bytes_received = 0
        self.bytes_sent = 0
        self.lost: OSError | None = None
        self.end_received = False
        self.tls = None
        self.peer = ("192.0.2.1", 7)
        self.local = ("192.0.2.2", 7)
        self.receiving = False
        self.sending = False
        self.aborted = False
        self.closed = False
        self.eof_at: float | None = None
        #: What a task that receives or sends waits for, where it has to.
        self.silence = current_engine().event()
        self.jam = current_engine().event()
        self.jam.set()
        self.unacknowledged = 0

    def has_come(self) -> bool:
        return False

    def __bytes__(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    @property
    def held(self) -> int:
        return 0

    def progress(self) -> int:
        return self.bytes_sent - self.unacknowledged

    def set_recv_size(self, max_bytes: int) -> None:
        pass

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self.receiving = True
        await self.silence.wait()
        self.receiving = False
        self._check()
        return b""

    async def send_all(self, data: Data) -> None:
        self.sending = not self.jam.is_set()
        await self.jam.wait()
        self.sending = False
        self._check()
        self.sent.append((current_engine().now(), bytes(data)))
        self.bytes_sent += len(data)

    async def send_eof(self) -> None:
        self.eof_at = current_engine().now()

    def end_receiving(self) -> None:
        self.silence.set()

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
        self.silence.set()
        self.jam.set()

    def _check(self) -> None:
        if self.closed:
            raise StreamClosed("closed")
        if self.aborted:
            self.lost = self.lost or StreamAborted("aborted")
            raise self.lost


def delayed(wire: Stream, delay: float, jitter: float = 0.0) -> DelayedStream:
    return DelayedStream(wire, delay, jitter, Chance(1, 1).of("jitter"))


OF_NO_SERVER: Any = None

CHUNKS = st.lists(st.binary(max_size=300), max_size=20)
GAPS = st.lists(st.floats(0, 0.05), min_size=20, max_size=20)


def around(wire: Stream, options: ServeOptions) -> Stream:
    for make in faults_of(options, Chance(options.seed or 0, 1)):
        wire = make(wire)
    return wire


# -- what is asked for, and what chance decides ------------------------------------------------


async def handler(connection: Connection) -> None:
    async for data in connection:
        await connection.send_all(data)


def test_without_faults_the_handler_is_left_alone():
    assert prepare(handler, ServeOptions()) is handler
    assert with_faults(handler, ServeOptions(seed=3)) is handler


@pytest.mark.parametrize("name", _OPTIONS)
def test_each_option_asks_for_its_fault(name):
    asked: dict[str, Any] = {name: "boom" if name == "fail_on" else 1}
    options = ServeOptions(**asked)
    assert with_faults(handler, options) is not handler

    async def main() -> None:
        wire = Wire()
        assert (around(wire, options) is wire) == (name == "half_open")

    run(main)


def test_a_seed_that_was_not_given_is_told(caplog):
    with caplog.at_level(logging.INFO, "anysock.faults"):
        with_faults(handler, ServeOptions(delay=1))
        assert not caplog.messages, "nothing is left to chance"
        with_faults(handler, ServeOptions(corrupt=0.5))
        [told] = caplog.messages
        assert int(told.split("--seed ")[1].split()[0]) < 1_000_000
        with_faults(handler, ServeOptions(corrupt=0.5, seed=77))
        assert "--seed 77 " in caplog.messages[1]


def which_are_dead(
    options: ServeOptions, connections: int = 200, run: Callable[..., Any] = run
) -> list[bool]:
    async def look(connection: Connection) -> None:
        found.append(isinstance(connection.stream, HalfOpenStream))

    found: list[bool] = []

    async def main() -> None:
        wrapped = with_faults(look, options)
        for _ in range(connections):
            await wrapped(Connection(Wire()))

    run(main)
    return found


def test_the_same_seed_chooses_the_same_connections():
    first = which_are_dead(ServeOptions(half_open=0.3, seed=1))
    assert 30 < sum(first) < 90
    assert first == which_are_dead(ServeOptions(half_open=0.3, seed=1))
    assert first == which_are_dead(ServeOptions(half_open=0.3, seed=1, corrupt=0.5, delay=1))
    assert first != which_are_dead(ServeOptions(half_open=0.3, seed=2))
    assert all(which_are_dead(ServeOptions(half_open=1), 20))


def test_without_a_seed_it_is_another_each_time():
    """On the real machine. In a simulated history the seed comes of that of the history."""
    options = ServeOptions(half_open=0.5)
    assert len({tuple(which_are_dead(options, run=anysock.run)) for _ in range(3)}) == 3
    assert len({tuple(which_are_dead(options)) for _ in range(3)}) == 1


def sent_with(options: ServeOptions, chunks: list[bytes]) -> list[tuple[float, bytes]]:
    async def main() -> list[tuple[float, bytes]]:
        wire = Wire()
        stream = around(wire, options)
        for chunk in chunks:
            await stream.send_all(chunk)
        await stream.close()
        return wire.sent

    found: list[tuple[float, bytes]] = run(main)
    return found


def test_the_same_seed_makes_the_same_faults():
    chunks = [b"%04d" % number for number in range(100)]
    options = ServeOptions(corrupt=0.3, delay=0.1, jitter=0.05, seed=5)
    first = sent_with(options, chunks)
    assert first == sent_with(options, chunks)
    assert first != sent_with(ServeOptions(corrupt=0.3, delay=0.1, jitter=0.05, seed=6), chunks)


# -- bytes ---------------------------------------------------------------------------------------


@given(
    CHUNKS,
    st.sampled_from([0.0, 0.01, 0.5]),
    st.sampled_from([0.0, 0.02]),
    st.none() | st.integers(1, 400),
    st.none() | st.integers(1, 100_000),
)
@settings(max_examples=60)
def test_delay_slice_and_throttle_change_no_byte(chunks, delay, jitter, most, rate):
    options = ServeOptions(delay=delay, jitter=jitter, slice=most, throttle=rate, seed=1)
    sent = sent_with(options, chunks)
    assert b"".join(data for _, data in sent) == b"".join(chunks)


@given(CHUNKS, st.floats(0, 1), st.integers(0, 1000))
def test_corrupt_changes_just_one_byte_of_the_chosen_sends(chunks, share, seed):
    async def main() -> None:
        wire = Wire()
        stream = CorruptStream(wire, share, Chance(seed, 1).of("corrupt"))
        for chunk in chunks:
            await stream.send_all(memoryview(chunk))
        # Of an empty one nothing is sent.
        whole = [chunk for chunk in chunks if chunk]
        assert [len(data) for _, data in wire.sent] == [len(chunk) for chunk in whole]
        wrong = [
            sum(a != b for a, b in zip(data, chunk, strict=True))
            for (_, data), chunk in zip(wire.sent, whole, strict=True)
        ]
        assert set(wrong) <= {0, 1}
        if share == 1:
            assert wrong == [1] * len(whole)
        elif share == 0:
            assert not any(wrong)

    run(main)


def test_corrupt_keeps_its_share():
    async def wrong(share: float) -> int:
        wire = Wire()
        stream = CorruptStream(wire, share, Chance(4, 1).of("corrupt"))
        for _ in range(5000):
            await stream.send_all(b"right")
        return sum(data != b"right" for _, data in wire.sent)

    assert 400 < run(lambda: wrong(0.1)) < 600
    assert run(lambda: wrong(1)) == 5000


@given(CHUNKS, st.integers(0, 2000), st.sampled_from([CloseAfter, ResetAfter]))
def test_an_end_comes_after_just_so_many_bytes(chunks, most, kind):
    async def main() -> None:
        wire = Wire()
        stream = kind(wire, most)
        ended = None
        for chunk in chunks:
            try:
                await stream.send_all(chunk)
            except EndOnPurpose as error:
                ended = error
        assert bytes(wire) == b"".join(chunks)[:most]
        enough = any(chunks) and len(b"".join(chunks)) >= most
        assert (ended is not None) == enough
        assert stream.lost is ended
        assert wire.aborted == (enough and kind is ResetAfter)

    run(main)


# -- time ----------------------------------------------------------------------------------------


@given(CHUNKS, GAPS, st.floats(0, 0.2))
@settings(max_examples=60)
def test_a_delay_line_shifts_everything_by_its_length(chunks, gaps, delay):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, delay)
        due: list[Any] = []
        for chunk, gap in zip(chunks, gaps, strict=False):
            await engine.sleep(gap)
            await stream.send_all(chunk)
            if chunk:
                due.append((pytest.approx(engine.now() + delay), chunk))
        await stream.close()
        assert wire.sent == due
        assert wire.closed

    run(main)


@given(st.integers(1, 30), st.floats(0, 0.1), st.floats(0, 0.2), st.integers(0, 1000))
@settings(max_examples=60)
def test_jitter_stays_within_its_bounds_and_keeps_the_order(count, delay, jitter, seed):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = DelayedStream(wire, delay, jitter, Chance(seed, 1).of("jitter"))
        for number in range(count):
            await stream.send_all(b"%02d" % number)
            await engine.sleep(0.01)
        await stream.close()
        assert [data for _, data in wire.sent] == [b"%02d" % number for number in range(count)]
        for number, (when, _) in enumerate(wire.sent):
            lag = when - number * 0.01
            assert lag >= max(delay - jitter, 0) - 1e-9
            # One that is behind a late one is late with it.
            assert when <= number * 0.01 + delay + jitter + 1e-9

    run(main)


def test_a_delay_is_no_bottleneck():
    """A thousand messages at once are a thousand in the line, and not one after the other."""
    sent = sent_with(ServeOptions(delay=0.5), [bytes(64)] * 1000)
    assert {when for when, _ in sent} == {0.5}


def test_the_end_of_the_stream_travels_behind_the_rest():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 0.5)
        await stream.send_all(b"bye")
        await engine.sleep(0.1)
        await stream.send_eof()
        assert engine.now() == pytest.approx(0.1)
        with pytest.raises(StreamClosed):
            await stream.send_all(b"more")
        await stream.close()
        assert wire.sent == [(0.5, b"bye")]
        assert wire.eof_at == pytest.approx(0.6)

    run(main)


@pytest.mark.parametrize("size", [1, 1000, 500_000])
def test_the_line_is_bounded(size):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 0.01)
        wire.jam = engine.event()
        given, most = 0, 4 * CAPACITY // (size + 150) * size

        async def pour() -> None:
            nonlocal given
            while given < most:
                await stream.send_all(bytes(size))
                given += size

        task = engine.spawn(pour())
        await engine.sleep(1)
        assert not task.done
        assert given <= CAPACITY + size
        assert given // size <= CAPACITY // 100, "small messages, too, cost something"
        assert stream.sending
        wire.jam.set()
        await task.join()
        await stream.close()
        assert wire.bytes_sent == given == most
        assert not stream.sending

    run(main)


@given(CHUNKS, st.integers(1, 5000))
def test_throttle_is_never_faster_and_hardly_slower(chunks, rate):
    chunks = [chunk for chunk in chunks if chunk]
    total = len(b"".join(chunks))
    sent = sent_with(ServeOptions(throttle=rate), chunks)
    at_once = max(rate // 10, 1)
    so_far = 0
    for when, data in sent:
        so_far += len(data)
        assert so_far <= rate * when + at_once + 1e-6
        assert len(data) <= at_once
    if sent:
        assert sent[-1][0] <= total / rate + 1e-6


@given(CHUNKS, st.integers(1, 100))
def test_slices_are_small_and_apart(chunks, most):
    sent = sent_with(ServeOptions(slice=most), [chunk for chunk in chunks if chunk])
    assert all(len(data) <= most for _, data in sent)
    times = [when for when, _ in sent]
    assert all(after - before >= 0.001 - 1e-9 for before, after in itertools.pairwise(times))


def test_an_answer_is_whole_when_its_slices_leave():
    """What is sliced has been delayed before, and is throttled after."""
    sent = sent_with(ServeOptions(delay=1, slice=10, throttle=100), [bytes(20), bytes(10)])
    assert [len(data) for _, data in sent] == [10, 10, 10]
    assert [when for when, _ in sent] == [1, pytest.approx(1.1), pytest.approx(1.2)]


def test_who_sends_while_slices_leave_is_told_so():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = SlicedStream(wire, 2)
        first = engine.spawn(stream.send_all(b"aaaaa"))
        await engine.sleep(0)
        with pytest.raises(StreamBusy):
            await stream.send_all(b"bbbbb")
        await first.join()
        await stream.send_all(b"ccccc")
        assert bytes(wire) == b"aaaaaccccc"

    run(main)


# -- the rest of the contract --------------------------------------------------------------------

TIMED = {
    "delay": lambda wire: delayed(wire, 60),
    "throttle": lambda wire: ThrottledStream(wire, 0.02),
    "slice": lambda wire: SlicedStream(wire, 1),
}


async def begun(stream: TimedStream) -> None:
    """Bring it to where it pauses."""
    engine = current_engine()
    engine.spawn(_quietly(stream.send_all(b"12")))
    await engine.sleep(0)
    await engine.sleep(0)
    assert stream.sending


async def _quietly(sending: Awaitable[object]) -> None:
    try:
        await sending
    except StreamAborted:
        pass


@pytest.mark.parametrize("name", ["delay", "throttle"])
def test_a_connection_that_waits_in_a_fault_is_neither_idle_nor_stuck_nor_at_rest(name):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = TIMED[name](wire)
        engine.spawn(_quietly(stream.recv()))
        await begun(stream)
        session = Session(Connection(stream), OF_NO_SERVER, engine.now())
        session.activity.begin(stream, engine.now())
        limits = TimeLimits(idle=1, write=1, lifetime=None, min_rate=0, window=1)
        for _ in range(40):
            await engine.sleep(1)
            session.check(engine.now(), limits)
            session.end_if_idle(engine.now())
        assert session.ended is None
        # Its last byte has left: now it is.
        await engine.sleep(30)
        for _ in range(3):
            session.end_if_idle(engine.now())
            await engine.sleep(1)
        assert session.ended is not None
        await stream.close()

    run(main)


def test_a_peer_that_does_not_read_is_stuck_behind_a_delay_too():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        wire.jam = engine.event()
        stream = delayed(wire, 5)
        await stream.send_all(b"never read")
        session = Session(Connection(stream), OF_NO_SERVER, engine.now())
        session.activity.begin(stream, engine.now())
        limits = TimeLimits(idle=None, write=1, lifetime=None, min_rate=0, window=1)
        for second in range(8):
            session.check(engine.now(), limits)
            assert (session.ended is None) == (second < 6)
            await engine.sleep(1)
        assert wire.aborted
        await stream.close()

    run(main)


@pytest.mark.parametrize("name", TIMED)
def test_an_abort_ends_a_wait_at_once(name):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = TIMED[name](wire)
        told = []

        async def send() -> None:
            with pytest.raises(StreamAborted) as caught:
                for _ in range(20_000):
                    await stream.send_all(b"12")
            assert caught.value is stream.lost
            told.append(engine.now())

        task = engine.spawn(send())
        await engine.sleep(0.0001)
        stream.abort()
        await task.join()
        await stream.close()
        assert told == [engine.now()]
        assert engine.now() == pytest.approx(0.0001)
        assert wire.closed

    run(main)


def test_an_abort_while_the_line_is_emptied_ends_that_at_once():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 60)
        await stream.send_all(b"late")
        closing = engine.spawn(stream.close())
        await engine.sleep(1)
        assert not wire.closed
        stream.abort()
        await closing.join()
        assert engine.now() == 1
        assert wire.closed
        assert not wire.sent

    run(main)


def test_a_close_that_is_given_up_is_a_reset_and_no_end():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 60)
        await stream.send_all(b"late")
        async with engine.scope(1) as scope:
            await stream.close()
        assert scope.fired
        assert wire.aborted
        assert wire.closed

    run(main)


@pytest.mark.parametrize("name", ["throttle", "slice"])
def test_a_send_that_is_given_up_in_its_middle_is_not_continued(name):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = TIMED[name](wire)
        async with engine.scope(0.0005) as scope:
            await stream.send_all(b"12")
        assert scope.fired
        assert bytes(wire) == b"1"
        with pytest.raises(StreamBroken):
            await stream.send_all(b"3")

    run(main)


@pytest.mark.parametrize("name", ["throttle", "slice"])
def test_a_send_that_is_given_up_before_its_first_byte_breaks_nothing(name):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = TIMED[name](wire)
        await stream.send_all(b"1")
        async with engine.scope(0.0005) as scope:
            await stream.send_all(b"2")
        assert scope.fired
        await stream.send_all(b"3")
        assert bytes(wire) == b"13"

    run(main)


def test_a_send_into_a_full_line_that_is_given_up_is_not_continued():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 60)
        async with engine.scope(1) as scope:
            await stream.send_all(bytes(2 * CAPACITY))
        assert scope.fired
        with pytest.raises(StreamBroken):
            await stream.send_all(b"more")
        stream.abort()
        await stream.close()

    run(main)


def test_a_peer_that_is_gone_is_told_to_who_sends_next_and_to_who_receives():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = delayed(wire, 0.1)
        wire.lost = gone = ConnectionResetError("gone")
        wire.aborted = True
        wire.lost = None
        await stream.send_all(b"x")
        wire.lost = gone
        await engine.sleep(0.2)
        with pytest.raises(ConnectionResetError):
            await stream.send_all(b"y")
        wire.aborted = False
        wire.end_receiving()
        with pytest.raises(ConnectionResetError):
            await stream.recv()
        assert stream.lost is gone
        assert not stream.sending
        await stream.close()

    run(main)


def test_a_reset_waits_until_the_peer_has_everything():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = ResetAfter(wire, 100)
        wire.unacknowledged = 60
        task = engine.spawn(stream.send_all(bytes(200)))
        task_failed = engine.spawn(_expect_end(task))
        for _ in range(6):
            await engine.sleep(0.1)
            assert not wire.aborted
            wire.unacknowledged -= 10
        await engine.sleep(0.1)
        assert wire.aborted
        await task_failed.join()

    run(main)


async def _expect_end(task: Any) -> None:
    with pytest.raises(EndOnPurpose):
        await task.join()


def test_a_reset_does_not_wait_for_who_takes_nothing():
    async def main() -> None:
        wire = Wire()
        stream = ResetAfter(wire, 100)
        wire.unacknowledged = 60
        with pytest.raises(EndOnPurpose):
            await stream.send_all(bytes(200))
        assert wire.aborted
        assert current_engine().now() < 1

    run(main)


@pytest.mark.parametrize("kind", [CloseAfter, ResetAfter])
@pytest.mark.parametrize("delay", [0, 0.5])
def test_an_end_on_purpose_wakes_who_receives(kind, delay):
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        ending = kind(wire, 2)
        stream = delayed(ending, delay) if delay else ending
        raised = []

        async def receive() -> None:
            with pytest.raises(EndOnPurpose) as caught:
                await stream.recv()
            raised.append(caught.value)

        task = engine.spawn(receive())
        await engine.sleep(0)
        await _swallow(stream.send_all(b"123"))
        await task.join()
        assert raised == [stream.lost]
        await stream.close()

    run(main)


@pytest.mark.parametrize("kind", [CloseAfter, ResetAfter])
def test_after_an_end_on_purpose_everything_says_so(kind):
    async def main() -> None:
        stream = kind(Wire(), 2)
        await _swallow(stream.send_all(b"123"))
        for use in (stream.recv, stream.send_eof, lambda: stream.send_all(b"4")):
            with pytest.raises(EndOnPurpose):
                await use()

    run(main)


async def _swallow(sending: Awaitable[object]) -> None:
    try:
        await sending
    except EndOnPurpose:
        pass


def test_a_dead_connection_is_silent_until_it_is_ended():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = HalfOpenStream(wire)
        heard = []

        async def handle() -> None:
            heard.append(await stream.recv())

        task = engine.spawn(handle())
        await engine.sleep(100)
        assert not task.done
        assert not wire.receiving, "its end of stream would be noticed"
        session = Session(Connection(stream), OF_NO_SERVER, engine.now())
        session.end_if_idle(engine.now())
        await engine.sleep(1)
        session.end_if_idle(engine.now())
        await task.join()
        assert heard == [b""]
        with pytest.raises(EndOnPurpose):
            await stream.send_all(b"x")
        await stream.close()
        assert wire.aborted
        assert wire.closed
        assert not wire.sent

    run(main)


def test_a_dead_connection_does_not_even_close():
    async def main() -> None:
        engine, wire = current_engine(), Wire()
        stream = HalfOpenStream(wire)
        closing = engine.spawn(stream.close())
        await engine.sleep(100)
        assert not wire.closed
        stream.abort()
        await closing.join()
        assert wire.closed
        with pytest.raises(StreamClosed):
            await stream.recv()

    run(main)
