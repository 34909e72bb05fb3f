"""The search for a rate, on servers that are a formula."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from anysock.bench.generator.latencies import Latencies, Samples
from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.reports.text import search_report, step_text
from anysock.bench.search import Bound, Search, find_rate, judge
from anysock.errors import UsageError
from anysock.net.addresses import Address

PLAN = Plan(Address("127.0.0.1", 1))


def outcome(plan, rate, took, **more):
    messages = int(rate * plan.duration)
    samples = Samples()
    samples.add(took)
    [bucket] = samples.take()
    echo = Latencies.of({bucket: messages} if messages else {})
    found = Outcome(plan, seconds=plan.duration, messages=messages, echo=echo)
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
@given(st.floats(1e4, 1e6), st.floats(0.05, 1.0))
def test_it_finds_the_knee_to_five_percent(capacity, share):
    knee = capacity * share
    bound = Bound.parse("p99<1ms")
    found = Search(bound, find_rate(PLAN, bound, server(capacity, knee))).best
    assert found is not None
    assert found.rate <= knee * 1.03  # a server may be asked for a little more than it gives
    assert found.rate >= knee / 1.06


def test_a_server_that_never_keeps_it_ends_the_search():
    bound = Bound.parse("p99<1ms")
    steps = find_rate(PLAN, bound, server(1000, 0))
    assert steps
    assert not Search(bound, steps).ok
    assert "p99 is " in str(steps[0].why_not)
    assert steps[-1].rate == bound.lowest_rate(PLAN.duration)
    with Console(width=200) as console, console.capture() as told:
        console.print(search_report(Search(bound, steps)))
    assert "no rate keeps p99<1ms from 102/s on" in told.get()
    assert "p99 takes 1,000 answers" in told.get()


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e4), st.floats(0.05, 1.0), st.floats(0.1, 10), st.sampled_from([50, 99, 99.9]))
def test_no_rate_is_named_of_which_there_were_too_few_answers(capacity, share, seconds, percent):
    bound = Bound(percent, 0.001)
    plan = dataclasses.replace(PLAN, duration=seconds)
    steps = find_rate(plan, bound, server(capacity, capacity * share))
    for step in steps:
        if step.passed:
            assert len(step.outcome.echo) >= 10 / (1 - percent / 100) - 1e-6
    passed = [step.rate for step in steps if step.passed]
    failed = [step.rate for step in steps if not step.passed]
    assert max(passed, default=0) < min(failed, default=math.inf)


def test_too_few_answers_tell_nothing():
    bound = Bound.parse("p99<5ms")
    plan = dataclasses.replace(PLAN, rate=9.0, duration=1.0)
    step = judge(outcome(plan, 9, 0.0001), bound)
    assert step.untold
    assert not step.passed
    with Console(width=200) as console, console.capture() as told:
        console.print(step_text(step))
    assert "can't tell: p99 takes 1,000 answers, not 9" in told.get()
    assert "p99        –" in told.get()


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
    told = judge(found, Bound.parse("p99<1ms")).why_not
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
