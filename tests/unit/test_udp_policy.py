"""Whom to answer over UDP, by addresses and a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.udp import policy
from anysock.udp.policy import Refusal, UdpPolicy

OURS = {"127.0.0.1", "192.0.2.1", "::1"}


def make(rate: float = 1000, total: float = 10_000, ports=(7000,)) -> UdpPolicy:
    return UdpPolicy(ports, rate, total, lambda host: host in OURS)


@pytest.mark.parametrize(
    ("source", "destination", "refusal"),
    [
        (("192.0.2.9", 40000), "192.0.2.1", None),
        (("192.0.2.9", 1024), None, None),
        (("192.0.2.9", 1023), "192.0.2.1", Refusal.RESERVED_PORT),
        (("192.0.2.9", 7), "192.0.2.1", Refusal.RESERVED_PORT),
        (("192.0.2.9", 0), "192.0.2.1", Refusal.RESERVED_PORT),
        (("255.255.255.255", 40000), None, Refusal.NO_HOST),
        (("224.0.0.1", 40000), None, Refusal.NO_HOST),
        (("0.0.0.0", 40000), None, Refusal.NO_HOST),
        (("0.1.2.3", 40000), None, Refusal.NO_HOST),
        (("ff02::1", 40000, 0, 2), None, Refusal.NO_HOST),
        (("::", 40000, 0, 0), None, Refusal.NO_HOST),
        (("::ffff:224.0.0.1", 40000, 0, 0), None, Refusal.NO_HOST),
        (("192.0.2.9", 40000), "255.255.255.255", Refusal.TO_MANY),
        (("192.0.2.9", 40000), "239.1.2.3", Refusal.TO_MANY),
        (("2001:db8::9", 40000, 0, 0), "ff02::1", Refusal.TO_MANY),
        (("192.0.2.1", 7000), "192.0.2.1", Refusal.OURSELVES),
        # Another address of ours, as it is with two networks.
        (("127.0.0.1", 7000), "192.0.2.1", Refusal.OURSELVES),
        (("::1", 7000, 0, 0), "::1", Refusal.OURSELVES),
        # Another port of ours is a client like any other, and the same port elsewhere, too.
        (("192.0.2.1", 7001), "192.0.2.1", None),
        (("192.0.2.9", 7000), "192.0.2.1", None),
        (("fe80::9%eth0", 40000, 0, 2), "fe80::1", None),
    ],
)
def test_who_is_answered(source, destination, refusal):
    assert make().judge(source, destination, 0.0) is refusal


def test_a_source_has_its_rate_and_others_have_theirs():
    judged = make(rate=10)  # a burst of one
    assert judged.judge(("192.0.2.9", 4000), None, 0.0) is None
    # Another port is the same source.
    assert judged.judge(("192.0.2.9", 4001), None, 0.05) is Refusal.SOURCE_RATE
    assert judged.judge(("192.0.2.8", 4001), None, 0.05) is None
    assert judged.judge(("192.0.2.9", 4000), None, 0.1) is None


def test_all_together_have_one_rate():
    judged = make(rate=10, total=20)
    answered = [judged.judge((f"192.0.2.{n}", 4000), None, 0.0) for n in range(1, 10)]
    assert answered == [None, None] + [Refusal.TOTAL_RATE] * 7


def test_the_table_of_sources_is_bounded_whoever_is_forged(monkeypatch):
    monkeypatch.setattr(policy, "MOST_SOURCES", 100)
    judged = make()
    for number in range(1000):
        judged.judge((f"10.0.{number // 250}.{number % 250}", 4000), None, 0.0)
    assert len(judged) == 100


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(0, 0.05, allow_nan=False)), min_size=1, max_size=300
    ),
    st.floats(1, 500),
)
def test_no_window_has_more_than_the_rate_and_a_burst(arrivals, rate):
    judged = make(rate=rate, total=1e9)
    now = 0.0
    answered: dict[int, list[float]] = {}
    for source, pause in arrivals:
        now += pause
        if judged.judge((f"192.0.2.{source}", 4000), None, now) is None:
            answered.setdefault(source, []).append(now)
    burst = max(rate * 0.1, 1)
    for times in answered.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                allowed = burst + rate * (times[last] - times[first])
                assert last - first + 1 <= allowed + 1e-6


def test_forged_datagrams_between_two_servers_stop_at_the_rate():
    """The loop of CERT CA-1996-01, with high ports, which no test of ports can stop."""
    one, other = make(rate=50, ports=(7000,)), make(rate=50, ports=(8000,))
    now, turns = 0.0, 0
    while turns < 1000:
        if one.judge(("198.51.100.2", 8000), "192.0.2.5", now) is not None:
            break
        if other.judge(("192.0.2.5", 7000), "198.51.100.2", now) is not None:
            break
        turns += 1
        now += 0.0001
    assert turns <= 6, "a burst, and then one of the two does not answer, and the loop is cut"
