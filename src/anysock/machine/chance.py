"""Chance, where no seed was given."""

from __future__ import annotations

import random


def fresh_seed(below: int) -> int:
    """A random seed from 0 to `below`, exclusive."""
    return random.SystemRandom().randrange(below)
