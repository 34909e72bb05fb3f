"""Oracles: what must hold of every history, whoever tells it.

A server tells of itself to a `Ledger`, each client writes down what it did and saw in a `Witness`,
and what was done to the network and to hosts is a list of `Disturbance`. Together they are a
`History`, which the oracles judge when it is over. None of them looks into the server. Each yields
what is wrong, in words, and says in its docstring what it takes for granted::

    history = History(servers=[ledger.close(server)], clients=[witness.record])
    assert not list(judge(history))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from anysock.sim.oracles import accounts, content, limits, reasons, waits
from anysock.sim.oracles.records import (
    Answers,
    ClientRecord,
    Disturbance,
    History,
    HostAtEnd,
    Served,
    ServerRecord,
)

__all__ = [
    "ALL",
    "Answers",
    "ClientRecord",
    "Disturbance",
    "History",
    "HostAtEnd",
    "Oracle",
    "Served",
    "ServerRecord",
    "judge",
]

Oracle = Callable[[History], Iterator[str]]

#: All of them. The first ones say most of what is wrong.
ALL: Sequence[Oracle] = (
    accounts.nothing_fails,
    content.bytes_are_right,
    content.no_byte_from_nowhere,
    content.nothing_answered_is_lost,
    content.what_ends_well_is_complete,
    content.an_abort_is_no_good_end,
    content.resets_are_explained,
    reasons.close_reasons_are_true,
    limits.no_more_connections_than_allowed,
    limits.no_more_bytes_than_allowed,
    limits.no_faster_than_allowed,
    limits.nobody_comes_in_too_fast,
    limits.nobody_stays_too_long,
    waits.who_waits_for_room_comes_in,
    waits.answers_come_in_time,
    waits.drains_end_in_time,
    waits.a_drain_ends_who_is_at_rest,
    accounts.events_agree,
    accounts.counters_agree,
    accounts.aborts_are_told,
    accounts.nothing_is_left,
)


def judge(history: History, oracles: Sequence[Oracle] = ALL) -> Iterator[str]:
    """What is wrong with `history`: the name of the oracle, and what it says."""
    for oracle in oracles:
        for wrong in oracle(history):
            yield f"{oracle.__name__}: {wrong}"
