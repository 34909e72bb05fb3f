"""Places in a program where a simulation may do what is rare elsewhere."""

from __future__ import annotations

from anysock.errors import UsageError
from anysock.sim.current import current_world

# In how many histories such a place does anything at all: rare things one at a time, and in some
# histories none, find more than all of them always (FoundationDB's BUGGIFY).
_ON = 0.25


def sometimes(name: str, probability: float = 0.25) -> bool:
    """Whether something rare is to happen here; outside of a simulated history, False at once.

    In a history, the place `name` is off, or, in one of four, on; where it is on, this is True
    with `probability`. Both come from a stream of chance of its own, so that places disturb
    neither each other nor the rest. How often it was True is counted in `World.fired`, by
    ``sometimes/NAME``.

    >>> from anysock import sim
    >>> cache = {}
    >>> if sim.sometimes("the cache is lost"):
    ...     cache.clear()
    """
    world = current_world()
    if world is None:
        return False
    if not 0 <= probability <= 1:
        raise UsageError(f"sometimes() takes a probability from 0 to 1, not {probability!r}")
    name = f"sometimes/{name}"
    is_on = world.places.get(name)
    if is_on is None:
        is_on = world.places[name] = world.chance.stream(name).random() < _ON
    if not is_on or world.chance.stream(name).random() >= probability:
        return False
    world.chance.fired[name] += 1
    return True
