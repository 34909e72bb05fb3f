"""Shrinking, and the file of what is left."""

from __future__ import annotations

import dataclasses
import json

import pytest

from anysock.errors import StartError, UsageError
from anysock.sim.finding import Finding
from anysock.sim.plan import Client, Message, Plan
from anysock.sim.replay import Replay, versions
from anysock.sim.shrink import shrink

FAULTS = {kind: {"share": 0.1} for kind in ("latency", "split", "reset", "stall", "refuse")}
PLANS = [Plan.draw(seed, clients=20, faults=FAULTS, swarm=False) for seed in range(3)]
RESETS = tuple(f"client7>server#{number}" for number in range(9))
SLOW = tuple(f"client7>server#{number}" for number in range(5000))
WRONG = Finding("bytes", "client 7: wrong bytes at 12", 1.5, {"reset": RESETS, "latency": SLOW})


def fails_if(condition, tried=None):
    def fails(plan):
        if tried is not None:
            tried.append(plan)
        return WRONG if condition(plan) else None

    return fails


def test_what_one_client_and_one_fault_do_is_left_alone():
    def guilty(plan):
        return "reset" in plan.faults and any(
            client.number == 7 and sum(each.size for each in client.messages) > 12
            for client in plan.clients
        )

    drawn = PLANS[0].changed(options={"backlog": 3, "max_bytes": 500}, drain_at=2.0)
    tried: list[Plan] = []
    shrunk = shrink(drawn, WRONG, fails_if(guilty, tried))
    assert shrunk.plan == Plan(
        drawn.seed,
        (Client(7, (Message(15),)),),
        faults={"reset": FAULTS["reset"]},
        only={"reset": RESETS[-1:]},
    )
    assert shrunk.tries == len(tried) < 100


def test_who_only_had_to_come_before_a_fault_struck_is_left_out():
    def guilty(plan):
        numbers = [client.number for client in plan.clients]
        if "reset" not in plan.faults or 7 not in numbers:
            return False
        return plan.faults["reset"].get("probability") == 1.0 or numbers.index(7) >= 4

    shrunk = shrink(PLANS[0], WRONG, fails_if(guilty))
    assert [client.number for client in shrunk.plan.clients] == [7]
    assert shrunk.plan.faults == {"reset": {**FAULTS["reset"], "probability": 1.0}}


def test_two_clients_that_need_each_other_stay():
    drawn = PLANS[1]

    def guilty(plan):
        return {3, 17} <= {client.number for client in plan.clients}

    shrunk = shrink(drawn, WRONG, fails_if(guilty))
    assert [client.number for client in shrunk.plan.clients] == [3, 17]
    assert not any(client.messages for client in shrunk.plan.clients)
    assert not shrunk.plan.faults


@pytest.mark.parametrize("wanted", [{4}, {0, 5}, {2, 3, 8}])
def test_the_occurrences_of_a_fault_that_matter_are_left(wanted):
    wanted = {RESETS[place] for place in wanted}

    def guilty(plan):
        return "reset" in plan.faults and wanted <= set(plan.only.get("reset", RESETS))

    shrunk = shrink(PLANS[2], WRONG, fails_if(guilty))
    assert shrunk.plan.only == {"reset": tuple(sorted(wanted))}
    assert not shrunk.plan.clients


def test_what_fails_in_another_way_is_not_taken():
    def fails(plan):
        return WRONG if len(plan.clients) == 20 else Finding("deadlock", "they wait")

    assert len(shrink(PLANS[0], WRONG, fails).plan.clients) == 20


def test_options_that_were_asked_for_stay():
    drawn = PLANS[0].changed(options={"backlog": 3, "prefix": "x", "max_bytes": 500})
    shrunk = shrink(drawn, WRONG, fails_if(lambda plan: True), kept=("prefix",))
    assert shrunk.plan == Plan(drawn.seed, options={"prefix": "x"})


def test_so_many_tries_and_no_more():
    tried: list[Plan] = []
    shrunk = shrink(PLANS[0], WRONG, fails_if(lambda plan: len(plan.clients) > 19, tried), tries=7)
    assert shrunk.tries == len(tried) == 7


def test_no_longer_than_it_may(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("anysock.sim.wall.computing", lambda: next(clock))
    tried: list[Plan] = []
    shrink(PLANS[0], WRONG, fails_if(lambda plan: True, tried), within=3)
    assert len(tried) == 2


# -- the file -------------------------------------------------------------------------------------

REPLAY = Replay("echo", "echo", PLANS[0], WRONG, "abc", versions())


def test_a_replay_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "7.json"
    REPLAY.write(path)
    found = Replay.read(path)
    assert found == REPLAY


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "report"}, "no file of a failing history"),
        ({"plan": {"format": 1}}, "plan: 'seed' is missing"),
        ({"finding": {"kind": 1}}, "finding.kind: expected a text, not 1"),
        ({"speed": 1}, "unknown name 'speed'"),
        ({"versions": {"python": 3}}, "versions.python: expected a text"),
    ],
)
def test_a_file_that_is_no_replay_is_told(tmp_path, change, says):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(REPLAY.to_dict() | change))
    with pytest.raises(UsageError) as caught:
        Replay.read(path)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_files_that_can_not_be_read_or_written(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        Replay.read(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="can't write"):
        REPLAY.write(tmp_path / "file" / "7.json")


@pytest.mark.parametrize(
    ("finding", "trace_hash", "says"),
    [
        (WRONG, "abc", "it fails in the same way, step for step"),
        (WRONG, "xyz", "it fails in the same way, but what leads to it differs"),
        (Finding("deadlock", "all wait"), "abc", "it fails in another way: it was client 7: wrong"),
        (None, "abc", "it does not fail any more: it was client 7: wrong bytes at 12"),
    ],
)
def test_a_replay_is_compared_with_what_was(finding, trace_hash, says):
    assert REPLAY.compared(finding, trace_hash).startswith(says)


def test_other_versions_are_told():
    old = dataclasses.replace(REPLAY, versions={"anysock": "0.0.9", "python": "3.2.1"})
    told = old.compared(None, "abc")
    assert "(then anysock 0.0.9, now " in told
    assert "; python 3.2.1, now 3." in told
