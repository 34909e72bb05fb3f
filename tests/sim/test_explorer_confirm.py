"""A find is tried under a real engine."""

from __future__ import annotations

import re

import pytest

from anysock.errors import StartError
from anysock.sim import confirm
from anysock.sim.cases import Case
from anysock.sim.confirm import Confirmation, confirmed, findings
from anysock.sim.finding import Finding
from anysock.sim.plan import Client, Message, Plan
from anysock.sim.replay import Replay, versions
from tests.sim.explored import answers_all_but_a_byte

THREE = tuple(Message(size) for size in (5, 700, 40))
PLAN = Plan(
    7,
    (Client(0, THREE, reading="slowly", turns=False), Client(5, THREE, host=2, ends="reset")),
    options={"per_source": 1},
)
WRONG = Finding("bytes_are_right", "client 0 received wrong bytes at 0")


@pytest.mark.parametrize("engine", ["selector", "asyncio", "trio", "threads"])
def test_a_history_under_a_real_engine(engine):
    assert findings(Case("echo"), PLAN, engine) == []
    plan = Plan(1, (Client(0, THREE, turns=False),))
    assert WRONG.kind in [
        found.kind for found in findings(Case(answers_all_but_a_byte), plan, engine)
    ]


@pytest.mark.parametrize("engine", ["selector", "asyncio", "trio", "threads"])
def test_a_history_over_tls_under_a_real_engine(engine):
    async def fails_over_tls(connection):
        data = await connection.recv()
        await connection.send_all(data if connection.tls is None else data[1:])

    plan = Plan(1, (Client(0, THREE, turns=False),), tls=True)
    assert findings(Case("echo"), plan, engine) == []
    case = Case(fails_over_tls)
    assert WRONG.kind in [found.kind for found in findings(case, plan, engine)]
    plain = Plan(1, (Client(0, THREE[:1], turns=False),))
    assert findings(case, plain, engine) == []


def test_a_handler_that_raises_is_of_the_same_kind_as_in_a_simulation():
    async def raises(connection):
        raise LookupError("no")

    kinds = [found.kind for found in findings(Case(raises), Plan(1, (Client(0),)), "selector")]
    assert kinds[0] == "handler: LookupError"


def test_it_is_tried_in_a_process_of_its_own():
    plan = Plan(1, (Client(0, THREE, turns=False),))
    replay = Replay(
        "tests.sim.explored:answers_all_but_a_byte", "echo", plan, WRONG, "", versions()
    )
    assert confirmed(replay, "selector") == Confirmation("selector", "yes", 1)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"jitter": {}}, r"also under selector: no, in \d+ tr(y|ies)"),
        (
            {"jitter": {}, "hold": {}, "emfile": {}},
            r"also under selector: can't tell: nothing real stands for hold, emfile",
        ),
    ],
)
def test_what_does_not_fail_there(monkeypatch, faults, said):
    monkeypatch.setattr(confirm, "SECONDS", 0.05)
    plan = Plan(1, (Client(0, THREE),), faults=faults)
    tried = confirm._tried(Case("echo"), plan, "bytes_are_right", "selector")
    assert tried["tries"] > 0
    assert re.fullmatch(said, str(Confirmation("selector", **tried)))


def test_an_engine_that_is_not_there_is_told(monkeypatch):
    def not_there(*_):
        raise StartError("needs the module trio")

    monkeypatch.setattr(confirm, "findings", not_there)
    tried = confirm._tried(Case("echo"), PLAN, "", "trio")
    assert (
        str(Confirmation("trio", **tried)) == "also under trio: can't tell: needs the module trio"
    )
