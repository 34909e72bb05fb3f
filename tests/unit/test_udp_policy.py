"""Whom to answer over UDP, by addresses and a clock of the test's own."""

from __future__ import annotations

import ipaddress
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.server.udp import policy
from anysock.server.udp.policy import Refusal, UdpPolicy

OURS = {"127.0.0.1", "192.0.2.1", "::1"}


def make(rate: float = 1000, total: float = 10_000, ports=(7000,), **more) -> UdpPolicy:
    return UdpPolicy(ports, rate, total, lambda source: source[0] in OURS, **more)


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


def test_the_broadcast_address_of_a_network_looks_like_a_host_and_is_told_apart():
    source, network = ("192.0.2.9", 40000), "192.0.2.255"
    assert make().judge(source, network, 0.0) is None
    assert make().judge(source, network, 0.0, to_many=True) is Refusal.TO_MANY


def test_whether_a_source_is_ours_is_asked_with_its_scope():
    asked = []
    judged = UdpPolicy((7000,), 1000, 1000, lambda source: not asked.append(source))  # type: ignore[func-returns-value]
    assert judged.judge(("fe80::1", 7000, 0, 3), "fe80::1", 0.0) is Refusal.OURSELVES
    assert asked == [("fe80::1", 7000, 0, 3)]


def test_who_is_denied_a_connection_is_not_answered_either():
    inside = [ipaddress.ip_network("192.0.2.0/24")]
    friend, stranger = ("192.0.2.9", 40000), ("198.51.100.9", 40000)
    assert make(allow=inside).judge(friend, None, 0.0) is None
    assert make(allow=inside).judge(stranger, None, 0.0) is Refusal.DENIED
    assert make(deny=inside).judge(friend, None, 0.0) is Refusal.DENIED
    assert make(deny=inside).judge(stranger, None, 0.0) is None


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
    monkeypatch.setattr(policy, "MAX_SOURCES", 100)
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


def in_bounds(times: list[float], rate: float, burst: float) -> bool:
    return all(
        last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-6
        for first in range(len(times))
        for last in range(first, len(times))
    )


# Anybody, from anywhere, to anywhere, at any time: most of it forged.
HOSTS = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(ipaddress.IPv6Address(number))),
    st.sampled_from(sorted(OURS)),
)
DATAGRAMS = st.lists(
    st.tuples(
        HOSTS,
        st.integers(0, 65_535),
        st.none() | HOSTS,
        st.booleans(),
        st.floats(0, 0.02, allow_nan=False),
    ),
    max_size=200,
)


@given(DATAGRAMS, st.floats(1, 500), st.floats(1, 500))
def test_whatever_comes_the_rate_for_all_holds_and_the_table_is_bounded(datagrams, rate, total):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "MAX_SOURCES", 10)
        judged = make(rate, total)
        now, answered = 0.0, []
        for host, port, destination, to_many, pause in datagrams:
            now += pause
            source = (host, port, 0, 0) if ":" in host else (host, port)
            if judged.judge(source, destination, now, to_many=to_many) is None:
                answered.append(now)
                assert port >= policy.FIRST_FREE_PORT
                assert not to_many
                assert not ipaddress.ip_address(host).is_multicast
                assert destination is None or not ipaddress.ip_address(destination).is_multicast
                assert not (host in OURS and port == 7000)
            assert len(judged) <= 10
    assert in_bounds(answered, total, max(total * 0.1, 1))


@given(
    st.lists(st.floats(0, 0.05, allow_nan=False), min_size=1, max_size=200),
    st.floats(1, 500),
    st.floats(1, 500),
)
def test_a_rate_that_is_lowered_holds_at_once(pauses, before, after):
    judged = make(rate=before, total=before)
    source, now = ("192.0.2.9", 4000), 0.0
    for pause in pauses:
        now += pause
        judged.judge(source, None, now)
    judged.set_rates(after, after)
    answered = []
    for pause in pauses:
        now += pause
        if judged.judge(source, None, now) is None:
            answered.append(now)
    assert in_bounds(answered, after, max(after * 0.1, 1))


def test_several_threads_may_ask(monkeypatch):
    """Under `threads` each socket is served by one; what one forgets, another may be looking at."""
    monkeypatch.setattr(policy, "MAX_SOURCES", 2)
    judged = make(rate=1e9, total=1000)
    answered: list[int] = []
    failed: list[Exception] = []

    def ask() -> None:
        count = 0
        try:
            for number in range(4000):
                count += judged.judge((f"192.0.2.{number // 2 % 5}", 4000), None, 0.0) is None
        except Exception as error:  # noqa: BLE001
            failed.append(error)
        answered.append(count)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed
    assert sum(answered) == 100, "a burst, and not one more"


def test_a_loop_that_is_slower_than_the_rate_goes_on_and_is_no_faster():
    """What a rate can't do: a datagram that takes 20 ms to come back is always within it. But that
    is all there is, however many more are forged into the loop."""
    one, other = make(rate=100, ports=(7000,)), make(rate=100, ports=(8000,))
    answered = []
    on_the_way = [0.01 + number * 1e-4 for number in range(50)]  # forged, when they arrive
    while on_the_way and (now := min(on_the_way)) < 3:
        on_the_way.remove(now)
        if one.judge(("198.51.100.2", 8000), "192.0.2.5", now) is None:
            answered.append(now)
            if other.judge(("192.0.2.5", 7000), "198.51.100.2", now + 0.01) is None:
                on_the_way.append(now + 0.02)
    assert in_bounds(answered, 100, 10)
    assert answered[-1] > 2.9


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
