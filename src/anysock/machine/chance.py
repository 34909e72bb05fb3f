"""Chance, where nobody has said which."""

from __future__ import annotations

import random


def fresh_seed(below: int) -> int:
    """A seed that no run before had, but by chance: 0 to `below`, exclusive."""
    return random.SystemRandom().randrange(below)
