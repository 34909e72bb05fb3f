"""The interval of a median, against the tables and against chance."""

from __future__ import annotations

import random

import pytest

from anysock.bench.statistics import Estimate


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Ranks from the end, as tables of nonparametric statistics have them.
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (11, 2, 10), (12, 3, 10), (15, 4, 12), (20, 6, 15)],
)
def test_the_ranks_of_the_tables(count, low, high):
    estimate = Estimate.of([float(rank) for rank in range(count, 0, -1)])
    assert (estimate.low, estimate.high) == (low, high)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_values_have_no_interval(count):
    estimate = Estimate.of([1.0] * count)
    assert estimate.median == 1.0
    assert (estimate.low, estimate.high, estimate.within) == (None, None, None)


def test_how_far_the_interval_reaches():
    assert Estimate.of([0.9, 0.95, 1.0, 1.0, 1.05, 1.2]).within == pytest.approx(0.2)
    assert Estimate.of([0.0] * 10).within is None


def test_it_holds_the_true_median_as_often_as_it_says():
    chance = random.Random(7)
    trials = 2000
    held = 0
    for _ in range(trials):
        estimate = Estimate.of([chance.expovariate(1.0) for _ in range(9)])
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= 0.6931 <= estimate.high
    assert held / trials > 0.95


def test_no_values_are_an_error():
    with pytest.raises(ValueError, match="no median"):
        Estimate.of([])
