from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.current import current_engine
from anysock.events import Events
from anysock.housekeeping import LATE_SECONDS, MOST_EXCUSED, Housekeeping, Punctuality
from tests.virtual import VirtualEngine


class Told(Events):
    def __init__(self):
        self.failures = []

    def housekeeping_failed(self, name, error, left_out):
        self.failures.append((name, str(error), left_out))


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

    VirtualEngine().run(main())
    assert len(calls) == 30, "until it came to its end"
    # About once a second, and with the number of those that were not told.
    assert 2 <= len(told.failures) <= 4
    assert told.failures[0] == ("limits", "number 1", 0)
    assert len(told.failures) + sum(left_out for _, _, left_out in told.failures) <= 29


@given(st.lists(st.floats(0, 5), max_size=50))
def test_nobody_is_excused_for_ever(delays):
    """However late each look is, one of a few judges."""
    punctuality, now, in_a_row = Punctuality(0.0), 0.0, 0
    for delay in delays:
        now += 1.0 + delay
        held_up = punctuality.held_up(now, 1.0)
        if held_up:
            assert held_up == pytest.approx(1.0 + delay)
            assert delay >= LATE_SECONDS - 1e-6
        in_a_row = in_a_row + 1 if held_up else 0
        assert in_a_row <= MOST_EXCUSED
