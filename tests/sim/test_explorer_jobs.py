"""Exploring in several processes, and comparing what they say."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest

from anysock.engines.sim.faults import parse
from anysock.errors import StartError, UsageError
from anysock.handlers import HANDLERS
from anysock.sim.determinism import compared, differences
from anysock.sim.diagnosis import diagnose, in_words
from anysock.sim.explore import Asked, Explorer, Tally
from anysock.sim.finding import Finding
from anysock.sim.jobs import explored
from anysock.sim.story import written

FAULTS = parse("hostile,-loss,-duplicate,-reorder,-clock").kinds
HERE = "tests.sim.explored"


def asked(handler="echo", **more: Any):
    name = handler if handler in HANDLERS else f"{HERE}:{handler}"
    check = "echo" if handler == "echo" else "none"
    usual = Asked(handler=name, clients=4, histories=30, faults=FAULTS, check=check)
    return dataclasses.replace(usual, **more)


def all_of(asked, jobs):
    tally, failures = Tally(), []
    for block in explored(asked, jobs):
        tally.merge(block.tally)
        failures += block.failures
    return tally.to_dict(), failures


@pytest.mark.parametrize("more", [{}, {"keep_going": True}])
def test_any_number_of_processes_says_the_same(more):
    """With the first failure somewhere in the middle, and others behind it."""
    wanted = asked("stops_at_three", check="echo", clients=1, seed=1, messages=4, **more)
    one, three = (all_of(wanted, jobs) for jobs in (1, 3))
    assert one[0].pop("seconds") == pytest.approx(three[0].pop("seconds"))
    assert one == three
    assert len(one[1]) > 1 if more else len(one[1]) == 1
    assert one[0]["histories"] == 30 if more else 1 < one[0]["histories"] < 30


def test_a_process_that_ends_is_told():
    with pytest.raises(StartError, match="has ended, with exit code"):
        all_of(asked("ends_the_process", clients=1, messages=1, swarm=False), 2)


def test_what_makes_no_sense_is_told_before_it_begins():
    wrong: list[Any] = [{"check": "all"}, {"options": {"backlog": 0}}, {"faults": {"rain": {}}}]
    for each in wrong:
        with pytest.raises(UsageError):
            asked(**each).check_all()


def found_in(asked):
    tally = Tally()
    with contextlib.closing(differences(asked, tally)) as several:
        return next(filter(None, several), None), tally


def test_what_is_ours_is_the_same_in_every_process():
    difference, tally = found_in(asked(histories=60, clients=6))
    assert difference is None
    assert tally.histories == 60


def test_the_order_of_a_set_is_seen_from_another_process():
    difference, _ = found_in(asked("in_the_order_of_a_set"))
    assert "in another process, with another hash seed" in difference.how
    assert "server    > client" in difference.one
    assert "server    > client" in difference.other
    assert difference.one != difference.other
    assert len(list(difference.lines())) == 7


def test_what_earlier_histories_have_left_is_seen():
    difference, _ = found_in(asked("as_many_as_before"))
    assert "again in the same process" in difference.how


def test_the_first_entry_that_differs_is_told():
    one = [(0.1, "a", "data", "b", 5, 1), (0.2, "a", "fin", "b", 0)]
    other = [(0.1, "a", "data", "b", 5, 2), (0.2, "a", "fin", "b", 0)]
    assert compared(1, "", written(one), written(other)).place == 0
    shorter = compared(1, "", written(one), written(one[:1]))
    assert (shorter.place, shorter.other.strip()) == (1, "nothing more")
    late = [one[0], (0.2000001, *one[1][1:])]
    assert compared(1, "", written(one), written(late)).one == repr(one[1])


def test_what_does_not_fail_again_is_told():
    explorer = Explorer(asked())
    found = diagnose(explorer, 0, Finding("bytes_are_right", "wrong bytes at 7"))
    assert found.outcome is None
    assert found.finding.text == "wrong bytes at 7"
    assert not found.story


def test_a_failure_is_shrunk_and_told():
    explorer = Explorer(asked("stops_at_three", check="echo", clients=20, messages=8))
    [(seed, finding)] = explorer.block(range(20)).failures
    found = diagnose(explorer, seed, finding)
    assert found.outcome is not None
    assert found.outcome.finding is not None
    assert found.outcome.finding.kind == finding.kind
    assert len(found.plan.clients) == 1
    assert not found.plan.faults
    assert 3 <= len(found.plan.clients[0].messages) <= 4
    assert "20 clients -> 1; no faults; no options" in in_words(found.drawn, found.plan)
    assert len(found.story) <= 20
    assert found.outcome.finding.text[:60] in found.story[-1]


def test_lines_behind_a_prefix():
    block = Explorer(asked("lines", check="lines", options={"prefix": "> "}, histories=40)).block(
        range(40)
    )
    assert block.failures == []
    assert block.tally.reasons["too many bytes"] > 0
