"""Garbage is collected between histories; within one, only where that is part of the history."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import anysock
from anysock.engines.sim.engine import SimEngine


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """One entry for each collection of garbage."""
    found: list[str] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            found.append(phase)

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


async def litter() -> list[list[object]]:
    """More than a usual collection waits for."""
    kept: list[list[object]] = []
    for _ in range(100):
        for _ in range(100):
            kept.append([])
            kept[-1].append(kept[-1])
        await anysock.sleep(0)
    return kept


def test_within_a_history_nothing_is_collected(collections):
    during = []

    async def main() -> None:
        collections.clear()
        await litter()
        during.extend(collections)

    anysock.run(main, engine=SimEngine())
    assert not during
    assert gc.isenabled()


def test_a_long_history_is_collected_at_the_same_turns(collections):
    def history() -> list[int]:
        engine, at = SimEngine(), list[int]()
        engine.network.collect_turns = 250

        async def main() -> None:
            gc.callbacks.append(lambda *_: at.append(engine.network.turns))
            try:
                for _ in range(6):
                    await litter()
            finally:
                gc.callbacks.pop()

        anysock.run(main, engine=engine)
        return at

    first = history()
    assert first
    assert all(turns % 250 == 0 for turns in first)
    assert history() == first


def test_it_stays_off_where_it_was_off():
    gc.disable()
    try:
        SimEngine().run(litter())
        assert not gc.isenabled()
    finally:
        gc.enable()
