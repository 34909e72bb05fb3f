"""Latencies: no percentile is further than 1 % from the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from anysock.bench.generator.latencies import PERCENTILES, Latencies, Samples, bucket_middle
from anysock.bench.reports.text import latency_table
from anysock.bench.reports.wording import TOO_FEW
from anysock.clients.percentiles import samples_needed
from anysock.clients.ping.statistics import Times

# From 50 ns to an hour: what the clock can tell, and what anybody waits for.
SECONDS = st.floats(5e-8, 3600.0)


def counted(values):
    samples = Samples()
    for value in values:
        samples.add(value)
    return Latencies.of(samples.take())


def exact(values, percent):
    """The smallest value that so many percent are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([0.0, 50.0, 90.0, 99.0, 100.0]))
def test_percentiles_are_within_one_percent(values, percent):
    told = counted(values).percentile(percent)
    assert math.isclose(told, exact(values, percent), rel_tol=0.01)


@given(SECONDS)
def test_a_bucket_is_less_than_one_percent_wide(value):
    samples = Samples()
    samples.add(value)
    [bucket] = samples.take()
    assert math.isclose(bucket_middle(bucket), value, rel_tol=0.0045)


@given(st.lists(SECONDS, max_size=10), st.lists(SECONDS, max_size=10))
def test_two_merged_are_one_of_both(some, more):
    merged = counted(some)
    merged.merge(counted(more))
    together = counted(some + more)
    assert merged.summary() == together.summary()


@given(st.lists(SECONDS, min_size=1, max_size=10))
def test_decode_reads_what_encode_wrote(values):
    latencies = counted(values)
    assert Latencies.decode(latencies.encode()).summary() == latencies.summary()


def test_what_was_taken_is_forgotten():
    samples = Samples()
    samples.add(0.5)
    assert sum(samples.take().values()) == 1
    assert samples.take() == {}


def test_an_empty_histogram_says_so():
    assert len(Latencies()) == 0
    assert Latencies().summary() == {"count": 0}
    assert Latencies().curve() == []


def test_buckets_survive_json_whose_keys_are_texts():
    assert Latencies.of({"14743": 3}).summary() == Latencies.of({14743: 3}).summary()


def test_less_than_nothing_and_more_than_an_hour_are_counted_at_the_ends():
    latencies = counted([0.0, 1e6])
    assert len(latencies) == 2
    assert latencies.percentile(0) < 2e-9
    assert math.isclose(latencies.percentile(100), 3600, rel_tol=0.01)


def test_a_curve_rises_from_the_lowest_to_the_highest():
    curve = counted([0.001 * number for number in range(1, 1001)]).curve()
    assert curve == sorted(curve)
    assert curve[0][0] == 0
    # Ten of the thousand lie beyond.
    assert curve[-1][0] == 99
    assert math.isclose(curve[-1][1], 0.99, rel_tol=0.01)


@pytest.mark.parametrize(
    ("percent", "needed"), [(0, 1), (50, 20), (90, 100), (99, 1000), (99.9, 10_000), (100, 1)]
)
def test_a_percentile_is_told_once_ten_samples_lie_beyond_it(percent, needed):
    assert samples_needed(percent) == needed
    assert counted([0.001] * needed).told(percent) is not None
    assert counted([0.001] * (needed - 1)).told(percent) is None


@settings(max_examples=20)
@given(st.integers(0, 20_000))
@example(10_000)
def test_nothing_tells_more_than_its_samples_bear(count):
    """Not the summary, not the table, not the curve."""
    latencies = Latencies.of({14743: count} if count else {})
    for percent in PERCENTILES:
        told = latencies.summary().get(f"p{percent:g}") is not None
        assert told == (count * (100 - percent) >= 1000 - 1e-6)
    assert all(count * (100 - percent) >= 1000 - 1e-6 for percent, _ in latencies.curve())
    with Console(width=200) as console, console.capture() as shown:
        console.print(latency_table([("echo", latencies)]))
    assert shown.get().count(TOO_FEW) == len(latencies.lacking())
    times = Times()
    for _ in range(min(count, 1200)):
        times.add(0.001)
    found = times.summary()
    assert (found.get("p50") is not None) == (count >= 20)
    assert (found.get("p99") is not None) == (count >= 1000)
