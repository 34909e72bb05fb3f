"""The life of a server, by its table."""

from __future__ import annotations

import itertools
import re
import threading

import pytest

from anysock.server.phase import FOLLOWING, Life, Phase

#: Written out, so that a change of the table is a change of this one, too: from each phase, the
#: phases to which it goes on.
TABLE = {
    "NEW": "STARTING DRAINING",
    "STARTING": "LISTENING DRAINING",
    "LISTENING": "LEAVING RETIRING DRAINING",
    "LEAVING": "DRAINING",
    "RETIRING": "DRAINING",
    "DRAINING": "CLOSING",
    "CLOSING": "ENDED",
    "ENDED": "",
}


def life_in(phase: Phase) -> Life:
    """A life that has come to `phase` by the shortest way."""
    ways: list[tuple[Phase, ...]] = [(Phase.NEW,)]
    while ways[0][-1] is not phase:
        way = ways.pop(0)
        ways += [(*way, following) for following in sorted(FOLLOWING[way[-1]])]
    life = Life()
    for step in ways[0][1:]:
        assert life.advance(step)
    return life


@pytest.mark.parametrize(
    ("phase", "to"), list(itertools.product(Phase, Phase)), ids=lambda each: each.name
)
def test_each_phase_goes_on_to_those_of_the_table_and_to_no_other(phase, to):
    life = life_in(phase)
    allowed = to.name in TABLE[phase.name].split()
    assert life.advance(to) is allowed
    assert life.phase is (to if allowed else phase)


def test_no_phase_comes_back_and_each_leads_to_the_end():
    for phase, following in FOLLOWING.items():
        assert all(to > phase for to in following)
        assert following or phase is Phase.ENDED
    assert set(FOLLOWING) == set(Phase)


def test_the_diagram_shows_each_phase():
    assert set(re.findall("[A-Z]{3,}", Phase.__doc__ or "")) == set(Phase.__members__)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("told_to_end", Phase.LEAVING),
        ("stopped_listening", Phase.RETIRING),
        ("draining", Phase.DRAINING),
        ("admits_nobody", Phase.CLOSING),
    ],
)
def test_what_a_phase_means_is_true_from_one_phase_on(question, first):
    for phase in Phase:
        assert getattr(phase, question) is (phase >= first)


@pytest.mark.parametrize("phase", Phase, ids=lambda each: each.name)
def test_a_claim_is_granted_once_in_any_phase(phase):
    life = life_in(phase)
    assert not life.claimed
    assert life.claim()
    assert not life.claim()
    assert life.claimed
    assert life.phase is phase


def test_pausing_changes_the_phase_in_no_way():
    for phase in Phase:
        life = life_in(phase)
        assert [life.set_paused(paused) for paused in (False, True, True, False)] == [
            False, True, False, True,
        ]  # fmt: skip
        assert life.phase is phase


def test_of_many_threads_one_makes_each_step():
    for _ in range(50):
        life = Life()
        granted: list[bool] = []
        barrier = threading.Barrier(8)

        def step(life=life, granted=granted, barrier=barrier) -> None:
            barrier.wait()
            granted.extend([life.advance(Phase.DRAINING), life.claim()])

        threads = [threading.Thread(target=step) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(granted) == [False] * 14 + [True] * 2
