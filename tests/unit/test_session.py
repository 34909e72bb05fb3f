"""When a connection has had its time: a stream and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.options.serve import ServeOptions
from anysock.server.session import Session
from anysock.server.time_limits import GRACE_SECONDS, QUIET_SECONDS, TimeLimits
from anysock.streams.connection import Connection
from anysock.streams.limiting import TooManyBytes
from anysock.telemetry.events import CloseReason
from tests.no_socket import NoSocket

# No limit but the one under test.
NONE = {"idle_timeout": 0, "write_timeout": 0, "max_lifetime": 0, "min_rate": 0}


class FakeStream(NoSocket):
    """What `Session` asks of a stream, and what it does to it."""

    tls = None

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.taken = 0
        self.receiving = True
        self.sending = False
        self.lost: OSError | None = None
        self.end_received = False
        self.ended = False
        self.aborted = False
        self.peer = ("192.0.2.1", 5)

    def has_come(self) -> bool:
        return False

    def recv(self, max_bytes=None):
        raise NotImplementedError

    send_all = recv

    def progress(self) -> int:
        assert self.sending, "asked for something that costs a system call, for nothing"
        return self.taken

    def end_receiving(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True


class FakeTask:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def session(stream: Any, now: float) -> Session:
    """A session of no server."""
    return Session(Connection(stream), None, now)  # type: ignore[arg-type]


class World:
    """A connection that is looked at as the server does, at times of the test's own."""

    def __init__(self, begun: bool = True, **options) -> None:
        self.limits = TimeLimits.of(ServeOptions(**(NONE | options)))
        self.now = 5000.0
        self.stream = FakeStream()
        self.task = FakeTask()
        self.session = session(self.stream, self.now)
        self.session._task = self.task  # type: ignore[assignment]
        if begun:
            self.begin()

    def begin(self) -> None:
        """Its handler begins."""
        self.session.activity.begin(self.stream, self.now)  # type: ignore[arg-type]

    def pass_(self, seconds: float, each_look: Callable[[], object] = lambda: None) -> float:
        """Let up to so many seconds pass, until the connection is ended; return how many did."""
        between = self.limits.check_interval
        assert between is not None
        began = self.now
        while self.now - began < seconds and self.session.ended is None:
            self.now += between
            each_look()
            self.session.check(self.now, self.limits)
        return self.now - began


seconds = st.floats(0.01, 100_000)


@given(**{name: st.just(0.0) | seconds for name in ("idle", "write", "lifetime", "rate")})
def test_looks_come_often_enough_for_the_shortest_time(idle, write, lifetime, rate):
    limits = TimeLimits.of(
        ServeOptions(idle_timeout=idle, write_timeout=write, max_lifetime=lifetime, min_rate=rate)
    )
    between = limits.check_interval
    finite = [each for each in (idle, write, lifetime, rate and (idle or 60)) if each]
    if not finite:
        assert between is None
    else:
        assert between is not None
        assert 0 < between <= min(min(finite) / 8, 5)


def test_the_defaults_are_all_finite():
    limits = TimeLimits.of(ServeOptions())
    assert (limits.idle, limits.write, limits.lifetime) == (600, 30, 86_400)
    assert limits.min_rate > 0


# -- idle -----------------------------------------------------------------------------------------


@given(idle=st.floats(0.01, 40))
def test_an_idle_connection_is_ended_in_time_and_not_before(idle):
    world = World(idle_timeout=idle)
    took = world.pass_(3 * idle)
    assert world.session.ended is CloseReason.IDLE
    assert idle <= took <= idle * 1.126, "an eighth, for a float's sake"
    assert world.stream.ended
    assert world.session.connection.draining, "a handler that does not receive is told so"
    assert not world.stream.aborted


@given(st.lists(st.sampled_from(["in", "out", "taken", ""]), max_size=60))
def test_whatever_moves_puts_it_off_and_nothing_else(moves):
    world = World(idle_timeout=10)
    stream = world.stream
    before, last = "", world.now
    for move in moves:
        world.now += 2.5
        stream.bytes_received += move == "in"
        stream.bytes_sent += move == "out"
        stream.taken += move == "taken"
        stream.sending = move == "taken"
        world.session.check(world.now, world.limits)
        if move or before == "taken":  # a send that waited has come to its end
            last = world.now
        before = move
        assert (world.session.ended is CloseReason.IDLE) == (world.now - last >= 10)
        if world.session.ended is not None:
            return


def test_a_peer_that_takes_what_is_sent_is_not_idle():
    world = World(idle_timeout=10)
    world.stream.sending = True

    def take() -> None:
        world.stream.taken += 1

    world.pass_(100, take)
    assert world.session.ended is None


def test_an_idle_one_that_waits_to_send_is_aborted_at_once():
    """Its peer reads nothing: it would not notice an end of the stream."""
    world = World(idle_timeout=10)
    world.stream.sending = True
    world.pass_(100)
    assert world.session.ended is CloseReason.IDLE
    assert world.stream.aborted
    assert world.task.cancelled == 1


def test_before_its_handler_has_begun_the_handshake_has_a_deadline_of_its_own():
    world = World(begun=False, idle_timeout=1, write_timeout=1, min_rate=1)
    world.pass_(100)
    assert world.session.ended is None
    world.begin()
    assert 1 <= world.pass_(100) < 1.3, "and its time counts from here"


# -- writing --------------------------------------------------------------------------------------


@given(write=st.floats(0.01, 40))
def test_a_peer_that_takes_nothing_is_aborted_in_time_and_not_before(write):
    world = World(write_timeout=write)
    world.stream.sending = True
    took = world.pass_(3 * write)
    assert world.session.ended is CloseReason.WRITE_TIMEOUT
    assert write <= took <= write * 1.26, "the first look is the one that sees it wait"
    assert world.stream.aborted
    assert world.task.cancelled == 1


def test_a_peer_that_takes_a_byte_now_and_then_is_not():
    world = World(write_timeout=8)
    world.stream.sending = True

    def take() -> None:
        if world.now % 7 == 0:
            world.stream.taken += 1

    world.pass_(300, take)
    assert world.session.ended is None


def test_each_wait_to_send_counts_for_itself():
    world = World(write_timeout=8)

    def toggle() -> None:
        world.stream.sending = world.now % 5 != 0

    world.pass_(300, toggle)
    assert world.session.ended is None


def test_who_waits_for_its_peer_to_speak_has_nothing_to_write():
    world = World(write_timeout=8)
    world.pass_(300)
    assert world.session.ended is None


# -- the least rate -------------------------------------------------------------------------------


def drip(world: World, every: float, size: int = 1) -> Callable[[], None]:
    """A client that sends so many bytes every so many seconds, and is answered."""
    next_at = world.now + every

    def move() -> None:
        nonlocal next_at
        while world.now >= next_at:
            next_at += every
            world.stream.bytes_received += size
            world.stream.bytes_sent += size

    return move


def test_a_byte_in_just_less_than_the_idle_timeout_is_too_slow():
    world = World(idle_timeout=10, min_rate=1)
    took = world.pass_(1000, drip(world, 9.9))
    assert world.session.ended is CloseReason.TOO_SLOW
    assert 10 <= took <= 2 * 9.9 + 1.3
    assert world.stream.ended


def test_who_goes_silent_is_idle_and_not_too_slow():
    world = World(idle_timeout=10, min_rate=1)
    world.now += 3
    world.stream.bytes_received = 5
    world.session.check(world.now, world.limits)
    assert 10 <= world.pass_(100) <= 11.3
    assert world.session.ended is CloseReason.IDLE


def test_where_nobody_is_idle_who_goes_silent_is_too_slow():
    world = World(min_rate=1)
    assert 60 <= world.pass_(1000) <= 65
    assert world.session.ended is CloseReason.TOO_SLOW


@given(rate=st.floats(0.5, 1000), idle=st.floats(1, 100))
def test_who_moves_as_much_as_it_must_goes_on(rate, idle):
    world = World(idle_timeout=idle, min_rate=rate)
    every = world.limits.check_interval
    assert every is not None
    enough = int(rate * every / 2) + 2
    world.pass_(20 * idle, drip(world, every, enough))
    assert world.session.ended is None


@given(rate=st.floats(1, 1000), share=st.floats(0, 0.8))
def test_who_moves_less_is_ended_when_the_first_time_is_over(rate, share):
    world = World(min_rate=rate)
    moved = 0.0

    def move() -> None:
        nonlocal moved
        moved += rate * share * 5
        world.stream.bytes_received = int(moved)

    assert 60 <= world.pass_(1000, move) <= 65.1
    assert world.session.ended is CloseReason.TOO_SLOW


def test_a_burst_is_good_for_one_window_only():
    world = World(idle_timeout=10, min_rate=10)
    world.stream.bytes_received = 1_000_000
    trickle = drip(world, 1)
    took = world.pass_(1000, trickle)
    assert world.session.ended is CloseReason.TOO_SLOW
    assert 20 <= took <= 26


# -- lifetime, grace ------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
def test_a_lifetime_ends_whatever_it_does(begun):
    world = World(begun, max_lifetime=100)
    took = world.pass_(1000, drip(world, 0.1, 1000))
    assert world.session.ended is CloseReason.LIFETIME
    assert 100 <= took <= 105
    assert world.stream.ended
    assert not world.stream.aborted


def test_a_handler_that_does_not_come_to_its_end_is_aborted_after_a_grace_and_told_once():
    world = World(max_lifetime=100)
    world.pass_(1000)
    ended = world.now
    while not world.stream.aborted:
        world.now += 1
        world.session.check(world.now, world.limits)
    assert world.now - ended == GRACE_SECONDS
    for _ in range(20):
        world.now += 1
        world.session.check(world.now, world.limits)
    assert world.task.cancelled == 1, "its clean-up would be interrupted again and again"
    assert world.session.reason() is CloseReason.LIFETIME


def test_a_task_that_is_not_there_yet_is_told_when_it_is():
    world = World(max_lifetime=100)
    world.session._task = None
    world.session.abort()
    world.session._task = world.task  # type: ignore[assignment]
    world.session.abort()
    assert world.task.cancelled == 1


def test_the_grace_is_no_longer_than_the_idle_timeout():
    assert World(idle_timeout=2).limits.grace == 2
    assert World(idle_timeout=600).limits.grace == GRACE_SECONDS
    assert World().limits.grace == GRACE_SECONDS


moves = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from(["in", "out", "taken", "stuck", "silent"])),
    max_size=80,
)


@given(moves, st.floats(1, 50), st.floats(1, 50), st.floats(1, 200))
def test_nothing_ends_before_its_time(moves, idle, write, lifetime):
    """Whatever moves or does not, and however late the looks are."""
    world = World(idle_timeout=idle, write_timeout=write, max_lifetime=lifetime)
    stream = world.stream
    opened = moved_at = taken_at = world.now
    for gap, move in moves:
        world.now += gap
        stream.sending = move in ("taken", "stuck")
        if move == "in":
            stream.bytes_received += 1
        elif move == "out":
            stream.bytes_sent += 1
        elif move == "taken":
            stream.taken += 1
        if move in ("in", "out", "taken"):
            moved_at = world.now
        if move != "stuck":
            taken_at = world.now
        world.session.check(world.now, world.limits)
        match world.session.ended:
            case CloseReason.LIFETIME:
                assert world.now - opened >= lifetime
                return
            case CloseReason.WRITE_TIMEOUT:
                assert world.now - taken_at >= write
                return
            case CloseReason.IDLE:
                assert world.now - moved_at >= idle
                return
        assert world.now - opened < lifetime, "it should have ended"


# -- drain ----------------------------------------------------------------------------------------


def test_a_drain_ends_who_is_at_rest_and_nobody_else():
    world = World()
    session, stream = world.session, world.stream

    def rest(seconds: float) -> None:
        world.now += seconds
        session.end_if_idle(world.now)

    rest(0.0)
    rest(QUIET_SECONDS - 0.01)
    stream.bytes_received += 1
    rest(0.02)
    assert session.ended is None, "something has moved"
    stream.receiving = False
    rest(10)
    assert session.ended is None, "its handler is at work"
    stream.receiving, stream.sending = True, True
    rest(10)
    assert session.ended is None, "its peer has not read all yet"
    stream.sending = False
    rest(0.0)
    rest(QUIET_SECONDS)
    assert session.ended is CloseReason.DRAINED
    assert stream.ended
    assert not stream.aborted


# -- how it ended ---------------------------------------------------------------------------------


def test_reason_when_its_handler_has_returned():
    world = World(idle_timeout=1)
    session, stream = world.session, world.stream
    assert session.reason() is CloseReason.DONE, "it has not read, so nobody knows of the peer"
    stream.end_received = True
    assert session.reason() is CloseReason.NO_DATA
    stream.bytes_received = 1
    assert session.reason() is CloseReason.DONE
    stream.lost = TooManyBytes()
    assert session.reason() is CloseReason.MAX_BYTES
    session.end(CloseReason.TOO_SLOW, world.now)
    assert session.reason() is CloseReason.TOO_SLOW
