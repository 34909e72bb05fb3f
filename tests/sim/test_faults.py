"""The plan of faults, and the decisions that are made by it."""

from __future__ import annotations

from typing import Any

import pytest

from anysock import UsageError
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.faults import FAULTS, PRESETS, FaultPlan, Faults, parse
from tests.sim.another_process import same_in_another_process


def decisions(
    text: str, *, seed: int = 7, subjects=("a>", "b>"), only=None
) -> dict[str, list[Any]]:
    """What is decided for some ends of connections, by kind."""
    plan = parse(text)
    for name, occurrences in (only or {}).items():
        plan = plan.keeping(name, occurrences)
    faults = Faults(plan, Chance(seed))
    found: dict[str, list[Any]] = {}
    for subject in subjects:
        fate = faults.fate(subject, connects=True)
        if fate is None:
            continue
        for _ in range(200):
            for name in ("partial", "short", "split"):
                if (cut := getattr(fate, name)) is not None:
                    found.setdefault(f"{subject}{name}", []).append(cut.cut(100))
            if fate.reset is not None:
                found.setdefault(f"{subject}reset", []).append(fate.reset.strikes())
            if fate.zero_window is not None:
                found.setdefault(f"{subject}zero-window", []).append(fate.zero_window.pause())
    return found


def test_a_plan_is_read_as_it_is_written():
    plan = parse("latency=200ms:least=1ms,reset=1%,split,stall:every=0.5:lasts=3s")
    assert plan.kinds == {
        "latency": {"most": 0.2, "least": 0.001},
        "reset": {"probability": 0.01},
        "split": {},
        "stall": {"every": 0.5, "lasts": 3.0},
    }
    assert parse(str(plan)) == plan
    assert plan.parameters("stall") == {"every": 0.5, "lasts": 3.0, "times": 2}


def test_presets_and_kinds_are_put_together():
    assert set(parse("all").kinds) == set(FAULTS)
    assert parse("none").kinds == parse("").kinds == {}
    assert set(parse("hostile,-reset").kinds) == set(FAULTS) - {"crash", "reset"}
    assert parse("calm,split=0.5").kinds["split"] == {"probability": 0.5}
    assert parse("all,-hostile").kinds == {"crash": {}}
    for name in PRESETS:
        assert parse(str(parse(name))) == parse(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resets", "there is no fault 'resets'"),
        ("-resets", "there is no fault 'resets'"),
        ("reset=2", "expected from 0 to 1"),
        ("reset=101%", "expected from 0 to 1"),
        ("reset=often", "expected a number, as 0.05 or 5%"),
        ("reset=1s", "expected a number, as 0.05 or 5%"),
        ("latency=5%", "expected a number, as 0.2 or 200ms"),
        ("latency=-1", "expected a number, as 0.2 or 200ms"),
        ("latency:1", "expected NAME=VALUE after 'latency'"),
        ("latency:longest=1", "has no 'longest'; it has most, least"),
        ("latency=1ms:least=2ms", "least is 0.002, and most is 0.001"),
    ],
)
def test_what_is_no_plan_is_one_line(text, message):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_strikes_about_as_often_as_it_says():
    decided = decisions("partial=0.2,reset=0.05", subjects=[str(n) for n in range(50)])
    partial = [each for name, some in decided.items() if "partial" in name for each in some]
    resets = [each for name, some in decided.items() if "reset" in name for each in some]
    assert 0.17 < sum(each < 100 for each in partial) / len(partial) < 0.23
    assert min(partial) == 1
    assert 0.04 < sum(resets) / len(resets) < 0.06


def test_the_ends_of_a_probability():
    assert set(decisions("reset=0")["a>reset"]) == {False}
    assert set(decisions("reset=1")["a>reset"]) == {True}


def test_a_kind_that_is_off_shifts_no_decision_of_another():
    whole = decisions("all")
    for name in ("partial", "reset", "zero-window", "jitter"):
        assert decisions(f"all,-{name}") == {
            each: decided for each, decided in whole.items() if not each.endswith(name)
        }


def test_a_subject_that_is_not_there_shifts_no_decision_of_another():
    whole = decisions("all", subjects=("a>", "b>", "c>"))
    assert decisions("all", subjects=("c>", "a>")) == {
        each: decided for each, decided in whole.items() if not each.startswith("b")
    }


def test_the_seed_decides_and_nothing_else():
    decided = decisions("all")
    assert decided == decisions("all") != decisions("all", seed=8)
    assert same_in_another_process(decided, __name__, "decisions('all')")


def test_single_occurrences_are_kept_by_name_or_by_number():
    faults = Faults(parse("partial"), Chance(7))
    for subject in ("a>", "b>"):
        fate = faults.fate(subject, connects=True)
        assert fate is not None
        assert fate.partial is not None
        for _ in range(50):
            fate.partial.cut(100)
    names = faults.occurrences["partial"]
    assert names[0] == "a>#0"
    assert "b>#0" in names
    assert faults.ledger.fired["partial"] == len(names) > 10

    whole = decisions("partial")
    kept = decisions("partial", only={"partial": ["b>#0"]})
    first = next(place for place, size in enumerate(whole["b>partial"]) if size < 100)
    assert kept["a>partial"] == [100] * 200
    assert kept["b>partial"] == [
        size if place == first else 100 for place, size in enumerate(whole["b>partial"])
    ]
    # Left out, it shifts none of those that stay.
    others = decisions("partial", only={"partial": [f"#{number}" for number in range(3, 1000)]})
    places = [place for place, size in enumerate(whole["a>partial"]) if size < 100]
    assert others["a>partial"] == [
        100 if place in places[:3] else size for place, size in enumerate(whole["a>partial"])
    ]


def test_what_would_change_nothing_is_not_counted():
    faults = Faults(parse("partial=1"), Chance(7))
    fate = faults.fate("a>", connects=True)
    assert fate is not None
    assert fate.partial is not None
    assert [fate.partial.cut(1) for _ in range(5)] == [1] * 5
    assert faults.plan.inert(faults.ledger.fired) == ["partial"]
    assert fate.partial.cut(2) == 1
    assert faults.plan.inert(faults.ledger.fired) == []


def test_once_healed_nothing_strikes():
    faults = Faults(parse("all"), Chance(7))
    fate = faults.fate("a>", connects=True)
    assert fate is not None
    faults.heal()
    fired = dict(faults.ledger.fired)
    for _ in range(200):
        assert fate.partial is not None
        assert fate.jitter is not None
        assert fate.partial.cut(100) == 100
        assert fate.jitter.next() == 0
    assert faults.ledger.fired == fired


def test_a_plan_without_faults_of_connections_has_no_fates():
    assert Faults(parse("crash,loss"), Chance(1)).fate("a>", connects=True) is None


def test_what_can_strike_depends_on_the_world():
    plan = parse("reset,loss,crash")
    assert plan.met("streams", "accepting") == ["reset"]
    assert plan.met("streams", "datagrams", "hosts") == ["reset", "loss", "crash"]


def test_times_come_from_a_stream_of_each_host():
    faults = Faults(parse("stall:every=1s:times=3,clock"), Chance(7))
    found = faults.times("stall", "client1")
    assert found is not None
    times = [seconds for seconds, _ in found[1]]
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)
    again = Faults(parse("stall:every=1s:times=3"), Chance(7)).times("stall", "client1")
    assert again is not None
    assert [seconds for seconds, _ in again[1]] == times
    assert faults.times("crash", "client1") is None
    assert FaultPlan().kinds == {}
