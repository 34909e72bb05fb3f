"""Histories over TLS: explored as others are, and as repeatable."""

from __future__ import annotations

from anysock.engines.sim.faults import parse
from anysock.sim.determinism import differences
from anysock.sim.explore import Asked, Explorer, Tally
from anysock.sim.plan import Plan

ASKED = Asked(clients=3, messages=4, histories=12, faults=parse("hostile").kinds, tls=True)


def test_a_history_over_tls_is_the_same_in_every_process():
    tally = Tally()
    assert not any(differences(ASKED, tally))
    assert tally.reasons["done"] > 5
    assert tally.fired["split"] > 5


def test_what_is_right_fails_over_tls_as_little():
    block = Explorer(ASKED).block(range(40))
    assert not block.failures
    assert block.tally.reasons["handshake failed"], "the network has met handshakes, too"


def sizes(*, tls: bool) -> list[int]:
    """How many bytes each segment of a history without faults has."""
    explorer = Explorer(Asked(clients=1, tls=tls, swarm=False))
    trace = explorer.run(explorer.asked.plan(1)).network.trace
    return [details[1] for _, _, what, *details in trace if what == "data"]


def test_it_is_tls_that_is_spoken():
    # Ten messages of 1,000 bytes, and what is answered.
    assert sum(sizes(tls=False)) == 20_000
    # The greetings of both; and around each record a head, the kind, and a tag.
    assert sizes(tls=True)[0] > 500
    assert sum(sizes(tls=True)) > 20_000 + 20 * 22 + 1000


def test_a_plan_over_tls_is_written_and_read():
    plan = Plan.draw(1, clients=1, tls=True)
    assert plan.tls
    assert Plan.from_json(plan.to_json()) == plan
    assert "tls" not in Plan.draw(1, clients=1).to_dict()
