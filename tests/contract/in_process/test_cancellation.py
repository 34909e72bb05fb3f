"""Sends and receives that are given up at random moments lose nothing and hide nothing."""

from __future__ import annotations

import random

import pytest

from tests.soak.cancellation import KINDS, cancellations

SECONDS = 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_cancelled_at_random_loses_nothing(concurrent_engine, kind, pki):
    seed = random.randrange(1 << 32)
    print(f"python -m tests.soak.cancellation --engine {concurrent_engine} --seed {seed}")
    outcomes = cancellations(concurrent_engine, kind, seed, SECONDS, pki)
    assert outcomes["connections"]
    assert outcomes["given up"]
