"""Who may come in, and how many: from figures alone."""

from __future__ import annotations

import os
import resource
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.posix.machine import MACHINE
from anysock.net.networks import source_of
from anysock.options.serve import ServeOptions
from anysock.server.admission import (
    SPARE_DESCRIPTORS,
    Admission,
    OwnSlots,
    TokenBucket,
    connections_that_fit,
)
from anysock.telemetry.events import CloseReason

MANY = 1000


def admission(most: int = MANY, **options) -> Admission:
    return Admission(ServeOptions(**options), most)


# -- rates ----------------------------------------------------------------------------------------

rates = st.floats(0.001, 1e6)
#: What passes between two who come, in seconds.
gaps = st.lists(st.floats(0, 10) | st.just(0.0), max_size=60)


def most_in_any_window(times: list[float], rate: float) -> float:
    """By how much the busiest window exceeds ``rate * its seconds``."""
    worst = 0.0
    for first in range(len(times)):
        for last in range(first, len(times)):
            worst = max(worst, last - first + 1 - rate * (times[last] - times[first]))
    return worst


@given(rate=rates, gaps=gaps)
def test_who_waits_as_told_comes_no_faster_than_the_rate(rate, gaps):
    """One acceptor: the next is taken when the last has waited."""
    bucket = TokenBucket(rate)
    now = 1000.0
    came = []
    for gap in gaps:
        now += gap
        now += bucket.take(now)
        came.append(now)
    assert most_in_any_window(came, rate) <= bucket.burst + 1e-6 * max(rate, 1)


@given(rate=rates, gaps=gaps, several=st.integers(2, 5))
def test_several_that_wait_at_once_come_no_faster_together(rate, gaps, several):
    """As many acceptors as listeners, each with one who waits."""
    bucket = TokenBucket(rate)
    free = [1000.0] * several
    came = []
    for gap in gaps:
        acceptor = free.index(min(free))
        now = free[acceptor] + gap
        free[acceptor] = now + bucket.take(now)
        came.append(free[acceptor])
    assert most_in_any_window(sorted(came), rate) <= bucket.burst + several + 1e-6 * max(rate, 1)


@given(rate=rates, gaps=gaps)
def test_who_may_not_wait_comes_no_faster_either_and_costs_nothing_when_refused(rate, gaps):
    bucket, other = TokenBucket(rate), TokenBucket(rate)
    now = 0.0
    came = []
    for gap in gaps:
        now += gap
        if bucket.may(now):
            came.append(now)
            assert other.may(now), "those that were refused have made a difference"
    assert most_in_any_window(came, rate) <= bucket.burst + 1e-6 * max(rate, 1)


@given(rate=st.floats(1, 1000))
def test_who_comes_at_the_rate_or_slower_never_waits(rate):
    bucket = TokenBucket(rate)
    for number in range(100):
        assert bucket.take(number / rate * 1.0001) == 0


def test_a_clock_that_is_read_out_of_order_gives_nothing_away():
    bucket = TokenBucket(10, burst=1)
    assert bucket.may(5.0)
    assert not bucket.may(4.0)
    assert not bucket.may(5.05)
    assert bucket.may(5.11)


def test_many_threads_share_one_rate():
    gate = admission(accept_rate=1000)
    passed = []

    def come() -> None:
        passed.append(sum(gate.in_time(7.0) for _ in range(200)))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 100, "the burst is a tenth of a second's"


def test_without_a_rate_nobody_waits():
    gate = admission(accept_rate=None)
    assert gate.delay(0.0) == 0
    assert gate.in_time(0.0)


def test_a_flood_that_is_closed_leaves_the_next_his_place():
    gate = admission(accept_rate=10)
    assert sum(gate.in_time(0.0) for _ in range(100_000)) == 1
    assert gate.in_time(0.2)


# -- slots ----------------------------------------------------------------------------------------


@given(most=st.integers(1, 20), steps=st.lists(st.booleans(), max_size=100))
def test_there_are_never_more_than_so_many(most, steps):
    slots = OwnSlots(most)
    taken = 0
    for take in steps:
        if take:
            assert slots.full == (taken == most)
            assert slots.take() == (taken < most)
            taken = min(taken + 1, most)
        elif taken:
            slots.give_back()
            taken -= 1
        assert slots.taken == taken <= most


def test_many_threads_never_take_one_too_many():
    slots = OwnSlots(3)
    seen = []

    def come() -> None:
        for _ in range(500):
            if slots.take():
                seen.append(slots.taken)
                slots.give_back()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) <= 3
    assert slots.taken == 0


def test_as_many_as_there_are_descriptors_for_less_some(monkeypatch):
    soft = len(os.listdir("/dev/fd")) + 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections_that_fit(MACHINE) == 100 - SPARE_DESCRIPTORS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3, 3))
    assert connections_that_fit(MACHINE) == 1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert connections_that_fit(MACHINE) == 1_000_000


# -- who may come in -----------------------------------------------------------------------------


def test_denied_comes_before_allowed():
    gate = admission(allow=["10.0.0.0/8"], deny=["10.6.0.0/16"])
    assert gate.judge(("10.1.0.1", 5)) is None
    assert gate.judge(("10.6.0.1", 5)) is CloseReason.DENIED
    assert gate.judge(("11.0.0.1", 5)) is CloseReason.DENIED
    assert gate.judge(("::1", 5, 0, 0)) is CloseReason.DENIED
    assert admission(deny=["10.6.0.0/16"]).judge(("11.0.0.1", 5)) is None


def test_on_a_unix_socket_its_permissions_decide():
    assert admission(allow=["10.0.0.0/8"], deny=["0.0.0.0/0", "::/0"]).judge("unix") is None


def test_the_source_that_has_enough_is_refused_and_no_other():
    gate = admission(per_source=2)
    peers = [("10.0.0.1", port) for port in range(3)]
    assert [gate.judge(peer) for peer in peers] == [None, None, CloseReason.PER_SOURCE]
    assert gate.judge(("10.0.0.2", 5)) is None
    gate.leave(peers[0])
    assert gate.judge(peers[2]) is None


peers = st.ip_addresses().map(lambda host: (str(host), 5)) | st.sampled_from(["unix", "/tmp/a"])


@given(st.lists(peers, max_size=8), st.data(), st.integers(1, 3))
def test_nothing_is_kept_of_those_who_have_left(hosts, data, most):
    """Come and go in any order: nobody has more than `most`, and at last the table is empty."""
    gate = admission(per_source=most)
    inside: list[Any] = []
    for _ in range(40):
        if hosts and data.draw(st.booleans()):
            peer = data.draw(st.sampled_from(hosts))
            same = [each for each in inside if source_of(each) == source_of(peer)]
            judged = gate.judge(peer)
            assert judged is (CloseReason.PER_SOURCE if len(same) == most else None)
            if judged is None:
                inside.append(peer)
        elif inside:
            gate.leave(inside.pop(data.draw(st.integers(0, len(inside) - 1))))
    for peer in inside:
        gate.leave(peer)
    assert not gate._sources


def test_without_a_limit_nothing_is_counted():
    gate = admission(most=5, per_source=5)
    assert gate.judge(("10.0.0.1", 5)) is None
    assert not gate._sources
