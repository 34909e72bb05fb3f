from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.current import current_engine
from anysock.server.housekeeping import (
    ENOUGH,
    LATE_SECONDS,
    MAX_EXCUSED,
    Housekeeping,
    Punctuality,
    most_held,
)
from anysock.telemetry.events import CloseReason
from tests.simulation import exact_engine, run_exactly
from tests.told import Told


def test_what_fails_is_told_and_tried_again():
    told, calls = Told(), []

    async def work():
        calls.append(current_engine().now())
        if len(calls) < 30:
            raise MemoryError(f"number {len(calls)}")

    async def main():
        house = Housekeeping(current_engine(), told)
        house.keep("limits", work)
        await current_engine().sleep(60)
        house.end()

    run_exactly(main())
    assert len(calls) == 30, "until it came to its end"
    # About once a second, and with the number of those that were not told.
    failures = told.of("housekeeping_failed")
    assert 2 <= len(failures) <= 4
    name, error, left_out = failures[0]
    assert (name, str(error), left_out) == ("limits", "number 1", 0)
    assert len(failures) + sum(left_out for _, _, left_out in failures) <= 29


@given(st.lists(st.floats(0, 5), max_size=50))
def test_nobody_is_excused_for_ever(delays):
    """However late each check is, one of a few judges."""
    punctuality, now, in_a_row = Punctuality(0.0), 0.0, 0
    for delay in delays:
        now += 1.0 + delay
        held_up = punctuality.held_up(now, 1.0)
        if held_up:
            assert held_up == pytest.approx(1.0 + delay)
            assert delay >= LATE_SECONDS - 1e-6
        in_a_row = in_a_row + 1 if held_up else 0
        assert in_a_row <= MAX_EXCUSED


class Holding:
    """A connection that holds so much, and has moved so much since the last check."""

    ended: CloseReason | None = None

    def __init__(self, held: int, moved: int) -> None:
        self.held = held
        self.moved = moved
        self.connection = self

    def cost(self) -> float:
        return self.held / (1 + self.moved)

    def end_at_once(self, reason: CloseReason, now: float) -> None:
        assert self.ended is None, "ended once"
        self.ended = reason


def watch(clients: list[Any], most: int, used: int | None = None, seconds: float = 10) -> None:
    async def main():
        house = Housekeeping(current_engine(), Told())
        house.keep("memory", lambda: house.check_memory(lambda: clients, most))
        await current_engine().sleep(seconds)
        house.end()

    engine = exact_engine()
    engine.machine = Mock(**{"resident.return_value": used})
    engine.run(main())


def test_beyond_the_memory_that_all_may_hold_who_holds_most_and_moves_least_is_ended():
    silent, slow, quick, small = (
        Holding(500, 0),
        Holding(600, 9),
        Holding(900, 10**6),
        Holding(1, 0),
    )
    clients = [small, quick, slow, silent]
    watch(clients, 2001)
    assert [each.ended for each in clients] == [None] * 4
    watch(clients, 2000)
    assert [each for each in clients if each.ended] == [silent]
    assert silent.ended is CloseReason.MEMORY
    silent.ended = None
    watch(clients, 1000)
    assert [each for each in clients if each.ended] == [small, slow, silent]


def test_unless_told_otherwise_it_is_half_of_what_the_machine_has():
    assert most_held(Mock(**{"memory.return_value": 1001})) == 500


def test_nobody_is_looked_at_while_the_whole_process_uses_less():
    def clients() -> list[Any]:
        raise AssertionError("looked at")

    watch(clients, 1000, used=1000)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=400),
    st.integers(1, 10**8),
)
def test_no_more_than_so_much_is_held_and_no_more_are_ended_than_must(holdings, most):
    clients = [Holding(held, moved) for held, moved in holdings]
    watch(clients, most, seconds=5)
    left = [each for each in clients if not each.ended]
    assert sum(each.held for each in left) <= most
    gone = [each for each in clients if each.ended]
    if sum(held for held, _ in holdings) <= most:
        assert not gone
    elif gone:
        last = min(gone, key=Holding.cost)
        assert sum(each.held for each in left) + last.held > most * ENOUGH
        assert all(each.cost() <= last.cost() for each in left)
