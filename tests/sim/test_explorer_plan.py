"""Plans: drawn, written, and read again; what is no plan is told with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysock.errors import UsageError
from anysock.options.serve import ServeOptions
from anysock.sim.plan import ENDS, READING, Client, Message, Plan

TIMES = st.floats(0, 1e6, allow_nan=False)
COUNTS = st.integers(0, 10**6)
MESSAGES = st.builds(Message, st.integers(1, 10**6), TIMES)
CLIENTS = st.builds(
    Client,
    number=COUNTS,
    messages=st.lists(MESSAGES, max_size=4).map(tuple),
    starts=TIMES,
    host=COUNTS,
    turns=st.booleans(),
    reading=st.sampled_from(READING),
    ends=st.sampled_from(ENDS),
)
PLANS = st.builds(
    Plan,
    seed=st.integers(0, 2**63 - 1),
    clients=st.lists(CLIENTS, max_size=4, unique_by=lambda client: client.number).map(tuple),
    options=st.fixed_dictionaries(
        {}, optional={"backlog": st.just(3), "max_bytes": st.just("1kB")}
    ),
    faults=st.dictionaries(st.text(), st.dictionaries(st.text(), TIMES, max_size=2), max_size=3),
    only=st.dictionaries(st.text(), st.lists(st.text(), max_size=3).map(tuple), max_size=2),
    drain_at=st.none() | TIMES,
)
FAULTS = {"latency": {"mean": 0.01}, "reset": {"share": 0.02}, "split": {}, "schedule": {}}


@given(PLANS)
def test_what_is_written_is_read_again(plan):
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json(indent=1).encode()).to_json() == plan.to_json()


@given(st.integers(0, 2**63 - 1), st.booleans())
@settings(max_examples=50)
def test_a_plan_that_is_drawn_can_be_read_and_its_options_are_good(seed, swarm):
    plan = Plan.draw(seed, clients=5, faults=FAULTS, swarm=swarm)
    assert plan == Plan.draw(seed, clients=5, faults=FAULTS, swarm=swarm)
    assert Plan.from_json(plan.to_json()) == plan
    ServeOptions(**plan.options)
    assert [client.number for client in plan.clients] == [0, 1, 2, 3, 4]


def test_more_clients_shift_none_of_the_others():
    few, many = (Plan.draw(7, clients=count, swarm=True) for count in (3, 20))
    hosts_aside = [
        [(each.messages, each.starts > 0, each.reading, each.ends, each.turns) for each in clients]
        for clients in (few.clients, many.clients[:3])
    ]
    assert hosts_aside[0] == hosts_aside[1]


def test_a_swarm_has_each_fault_and_each_way_of_a_client_on_and_off():
    plans = [Plan.draw(seed, clients=8, faults=FAULTS) for seed in range(100)]
    for kind in FAULTS:
        assert 20 < sum(kind in plan.faults for plan in plans) < 80
    clients = [client for plan in plans for client in plan.clients]
    assert {client.reading for client in clients} == set(READING)
    assert {client.ends for client in clients} == set(ENDS)
    schedules = [plan.faults["schedule"] for plan in plans if "schedule" in plan.faults]
    assert {bool(each) for each in schedules} == {True, False}
    assert {plan.drain_at is None for plan in plans} == {True, False}
    assert len({client.host for plan in plans for client in plan.clients}) > 3


@pytest.mark.parametrize(("recv_size", "most"), [(1, 1000), ("1kB", 60_000)])
def test_no_message_takes_a_server_thousands_of_receives(recv_size, most):
    """Of those who read nothing, whose messages are large."""
    largest = max(
        message.size
        for seed in range(100)
        for client in Plan.draw(seed, options={"recv_size": recv_size}).clients
        if client.reading == "never"
        for message in client.messages
    )
    assert 0.9 * most < largest <= most


def test_without_a_swarm_all_is_on_and_plain():
    plan = Plan.draw(3, clients=2, messages=4, size=10, faults=FAULTS, swarm=False)
    assert plan.faults == FAULTS
    assert not plan.options
    assert [client.messages for client in plan.clients] == [(Message(10),) * 4] * 2


@pytest.mark.parametrize("seed", range(30))
def test_options_that_are_given_stay_and_the_others_go_with_them(seed):
    given = {"rate_limit": "2KiB", "overflow": "close"}
    options = Plan.draw(seed, options=given).options
    assert options["rate_limit"] == "2KiB"
    assert options["overflow"] == "close"
    ServeOptions(**options)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "plan: it has format 2; this version of anysock reads 1"),
        ({"seed": -1}, "plan.seed: expected a whole number, not -1"),
        ({"seed": True}, "plan.seed: expected a whole number, not true"),
        ({"sead": 1}, "plan: unknown name 'sead'"),
        ({"clients": {}}, "plan.clients: expected a list, not {}"),
        ({"clients": [{}]}, "plan.clients[0]: 'number' is missing"),
        ({"clients": [{"number": 1}, {"number": 1}]}, "plan.clients: two have the same number"),
        ({"clients": [{"number": 1, "messages": [0]}]}, "clients[0].messages[0]: expected a whole"),
        ({"clients": [{"number": 1, "messages": [[1]]}]}, "expected a size and a pause, not 1"),
        ({"clients": [{"number": 1, "reading": "aloud"}]}, "expected one of at once, slowly"),
        ({"clients": [{"number": 1, "ends": 3}]}, "ends: expected one of half-close"),
        ({"clients": [{"number": 1, "turns": 1}]}, "turns: expected true or false, not 1"),
        ({"drain_at": -0.1}, "plan.drain_at: expected a number from 0, not -0.1"),
        ({"drain_at": "soon"}, 'plan.drain_at: expected a number, not "soon"'),
        ({"options": {"speed": 3}}, "plan.options: unknown name 'speed'"),
        ({"options": {"backlog": 0}}, "plan.options: --backlog: expected at least 1, not 0"),
        ({"faults": {"reset": 1}}, "plan.faults.reset: expected an object, not 1"),
        ({"faults": {"reset": {"share": "x"}}}, "plan.faults.reset.share: expected a number"),
        ({"only": {"reset": [1.5]}}, "plan.only.reset[0]: expected a text, not 1.5"),
    ],
)
def test_what_is_no_plan_is_told_with_its_place(change, says):
    with pytest.raises(UsageError) as caught:
        Plan.from_json(json.dumps({"format": 1, "seed": 1} | change))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, '{"format":1,"seed":NaN}', b"\xff"],
)
def test_what_is_no_json_of_a_plan_is_refused(text):
    with pytest.raises(UsageError):
        Plan.from_json(text)
