"""Latencies: no percentile is further than 1 % from the truth."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from anysock.bench.latencies import Latencies, Samples, bucket_middle

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


@given(st.lists(SECONDS, max_size=50), st.lists(SECONDS, max_size=50))
def test_two_merged_are_one_of_both(some, more):
    merged = counted(some)
    merged.merge(counted(more))
    together = counted(some + more)
    assert merged.summary() == together.summary()


@given(st.lists(SECONDS, min_size=1, max_size=50))
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
    assert curve[-1][0] == 100
    assert math.isclose(curve[-1][1], 1.0, rel_tol=0.01)
