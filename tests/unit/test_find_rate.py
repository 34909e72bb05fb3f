"""The search for a rate, on servers that are a formula."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysock.bench.latencies import Latencies, Samples
from anysock.bench.load import Outcome
from anysock.bench.plan import Plan
from anysock.bench.search import Bound, best, find_rate, judge
from anysock.errors import UsageError
from anysock.net.addresses import Address

PLAN = Plan(Address("127.0.0.1", 1))


def outcome(plan, rate, took, **more):
    samples = Samples()
    for _ in range(100):
        samples.add(took)
    found = Outcome(plan, seconds=1.0, messages=int(rate), echo=Latencies.of(samples.take()))
    for name, value in more.items():
        setattr(found, name, value)
    return found


def server(capacity, knee):
    """Answers in 0.1 ms up to `knee` messages a second, in 10 ms above; up to `capacity`."""

    def run(plan):
        rate = capacity if plan.rate is None else min(plan.rate, capacity)
        return outcome(plan, rate, 0.0001 if (plan.rate or capacity) <= knee else 0.01)

    return run


@settings(max_examples=50, deadline=None)
@given(st.floats(100, 1e6), st.floats(0.05, 1.0))
def test_it_finds_the_knee_to_five_percent(capacity, share):
    knee = capacity * share
    steps = find_rate(PLAN, Bound.parse("p99<1ms"), server(capacity, knee))
    found = best(steps)
    assert found is not None
    assert found.rate <= knee * 1.03  # a server may be asked for a little more than it gives
    assert found.rate >= knee / 1.06


def test_a_server_that_never_keeps_it_ends_the_search():
    steps = find_rate(PLAN, Bound.parse("p99<1ms"), server(1000, 0))
    assert steps
    assert best(steps) is None
    assert "p99 is " in str(steps[0].why_not)


def test_an_interrupted_step_does_not_count():
    def run(plan):
        found = server(1000, 500)(plan)
        found.interrupted = plan.rate is not None
        return found

    assert find_rate(PLAN, Bound.parse("p99<1ms"), run) == []


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (outcome(Plan(PLAN.address, rate=100), 100, 0.0001), None),
        (outcome(Plan(PLAN.address, rate=100), 100, 0.002), "p99 is 2"),
        (outcome(Plan(PLAN.address, rate=1000), 900, 0.0001), "only 900/s came back"),
        (outcome(Plan(PLAN.address, rate=10), 10, 0.0001, errors=Counter(reset=1)), "reset"),
        (outcome(Plan(PLAN.address, rate=10), 10, 0.0001, unanswered=3), "unanswered"),
        (outcome(Plan(PLAN.address, rate=10), 0, 0.0001), "nothing was answered"),
    ],
)
def test_why_an_outcome_does_not_pass(found, why):
    told = judge(found, Bound.parse("p99<1ms"))
    assert told is None if why is None else told is not None and why in told


@pytest.mark.parametrize(
    ("text", "percent", "seconds"),
    [("p99<1ms", 99, 0.001), (" p99.9 < 500us ", 99.9, 0.0005), ("max<2s", 100, 2)],
)
def test_bounds(text, percent, seconds):
    bound = Bound.parse(text)
    assert (bound.percent, bound.seconds) == (percent, seconds)
    assert Bound.parse(str(bound)) == bound


@pytest.mark.parametrize("text", ["", "p99", "p99>1ms", "p0<1ms", "p101<1ms", "p99<0", "p99<x"])
def test_what_is_no_bound(text):
    with pytest.raises(UsageError):
        Bound.parse(text)
