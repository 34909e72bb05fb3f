"""The stock explorer finds planted faults: a handful of those that it finds soon, one at least of
each room. ``make power`` takes all, and prints the table."""

from __future__ import annotations

import pytest

from tests.sim.planted.power import search

# Most are found in one of the first twenty; chance is another with each change of the simulation.
HISTORIES = 300


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("answers_with_another_message", "received wrong bytes"),
        ("a_free_slot_wakes_nobody", "though there was room"),
        ("one_connection_more", "were open"),
        ("a_sender_is_not_woken", ""),
        ("an_abort_is_no_reset", "good end of the stream"),
        ("a_stop_makes_all_idle", "what it had sent had lain there"),
    ],
)
def test_it_is_found(name: str, words: str):
    found = search(name, HISTORIES)
    assert found.get("histories"), f"not found in {HISTORIES} histories"
    assert found["repeated"]
    assert words in found["finding"]
