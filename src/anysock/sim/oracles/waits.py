"""Oracles of time: nobody waits longer than need be, and what must end does end."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator

from anysock.server.ending import CLEAN_UP_SECONDS
from anysock.sim.oracles.limits import AT_ONCE, REFUSED, may_be_sending, was_admitted
from anysock.sim.oracles.reasons import DRAIN_TOLD_LATE
from anysock.sim.oracles.records import ClientRecord, History, Served, ServerRecord
from anysock.telemetry.events import CloseReason

# Connections a second, from which on the option ``accept_rate`` makes nobody wait for long.
FAST = 1000.0

# Seconds that an answer may take in which nothing holds up anybody.
ANSWER_SECONDS = 2.0

# How many times a segment may have to cross the network before the next piece of an answer is
# there, where buffers are small.
CROSSINGS = 10

# A connection that has been at rest for so many seconds before the deadline of a drain should have
# ended, even if its close has waited for its peer.
AT_REST = 2.5


def who_waits_for_room_comes_in(history: History) -> Iterator[str]:
    """A client that is connected is accepted at once when the server has room, and so it is not
    turned away at the end of a drain.

    Where ``accept_rate`` makes clients wait as well, nobody is judged; nor who was held up, or has
    met a full backlog or a shortage of descriptors.
    """
    for server in history.servers:
        rate = server.options.accept_rate
        if server.options.overflow == "close" or (rate is not None and rate < FAST):
            continue
        most = server.options.max_connections or math.inf
        pairs = [(each, client) for of, each, client in history.pairs if of is server]
        changes = sorted(_changes(server))
        for served, client in pairs:
            if client.connected is None or served.reason in REFUSED:
                continue
            since = max(client.connected + history.latency, _last_full(changes, served, most))
            waited = served.accepted - since
            if waited <= AT_ONCE + history.latency:
                continue
            if history.held_up(server, client, since=since, until=served.accepted):
                continue
            if history.backlog_was_full(server, client):
                continue
            if any(since - AT_ONCE <= when <= served.accepted for when, _ in server.accept_errors):
                continue
            yield f"{client} waited for {waited:.3f} s though there was room"


def _changes(server: ServerRecord) -> Iterator[tuple[float, int]]:
    """When how many more, or fewer, were open."""
    for served in server.connections:
        if was_admitted(served):
            yield served.accepted, 1
            if served.closed is not None:
                yield served.closed, -1


def _last_full(changes: list[tuple[float, int]], served: Served, most: float) -> float:
    """When the server was last full before it accepted this one."""
    number, full = 0, -math.inf
    for when, change in changes:
        if when > served.accepted or (when == served.accepted and change > 0):
            break
        if number >= most:
            full = when
        number += change
    return served.accepted if number >= most else full


def answers_come_in_time(history: History) -> Iterator[str]:
    """What is due to a client arrives, and the end of the stream after it.

    Judges clients that receive whenever something is due (`ClientRecord.awaits`), of servers whose
    record has `answers_at_once`; not where a rate is limited, or somebody was held up; nor by TLS,
    where a client has nothing of a record until it has all of it. A client that does not receive
    before all of its message is sent may have to wait for ever, if that is more than all buffers
    hold: it waits for itself, once something has come.
    """
    for server, served, client in history.pairs:
        if server.answers_at_once is None or not client.awaits or served.opened is None:
            continue
        if server.options.rate_limit is not None or server.tls:
            continue
        patience = ANSWER_SECONDS + CROSSINGS * history.latency
        over = min(
            each
            for each in (client.ended, client.closed, client.aborted, history.ended)
            if each is not None
        )
        received, times = 0, [*client.receives, (over, len(client.received))]
        last = served.opened
        for when, total in times:
            asked = _asked(client, when)
            began = max(last, asked)
            came = _came(client, began, when)
            if came - began > patience and not _excused(history, server, client, began, came):
                due = _due(server, client, began)
                if due > received:
                    yield (
                        f"{client} waited for {came - began:.3f} s for an answer: it had "
                        f"{received} of {due} bytes"
                    )
                    break
                if client.half_closed is not None and client.half_closed <= began:
                    yield (
                        f"{client} waited for {came - began:.3f} s for the end, when it had "
                        "ended its stream"
                    )
                    break
            last, received = when, total


def _asked(client: ClientRecord, before: float) -> float:
    """When the client last sent something before that time, be it the end of its stream."""
    earlier = bisect.bisect_left(client.sends, (before, 0))
    last = client.sends[earlier - 1][0] if earlier else 0.0
    if client.half_closed is not None and client.half_closed < before:
        return max(last, client.half_closed)
    return last


def _came(client: ClientRecord, since: float, until: float) -> float:
    """When there was something to receive for a client that waited from `since`, and had it at
    `until`."""
    there = (max(began, since) for began, ended in client.unread if ended > since)
    return min((until, *there))


def _due(server: ServerRecord, client: ClientRecord, at: float) -> int:
    sent = max((total for when, total in client.sends if when <= at), default=0)
    assert server.answers_at_once is not None
    due = len(server.answers_at_once(bytes(client.sent[:sent])))
    most = server.options.max_bytes
    return due if most is None else min(due, most)


def _excused(
    history: History, server: ServerRecord, client: ClientRecord, since: float, until: float
) -> bool:
    return history.held_up(server, client, since=since, until=until)


def drains_end_in_time(history: History) -> Iterator[str]:
    """A drain is over at its deadline, and the time after it that handlers have to clean up."""
    for server in history.servers:
        if server.drain_began is None:
            continue
        latest = server.drain_began + server.drain_seconds + CLEAN_UP_SECONDS + AT_ONCE
        over = history.ended if server.drained is None else server.drained
        if over <= latest:
            continue
        if history.held_up(server, since=server.drain_began, until=over):
            continue
        told = "is not over" if server.drained is None else "was over"
        yield (
            f"the drain on {server.host} {told} after {over - server.drain_began:.3f} s, and had "
            f"{server.drain_seconds:g} s"
        )


def a_drain_ends_who_is_at_rest(history: History) -> Iterator[str]:
    """Whom a drain has aborted was not at rest: something had moved shortly before, or the handler
    had something to send.

    Takes for granted that the server's record has `answers_at_once`.
    """
    for server, served, client in history.pairs:
        if served.reason is not CloseReason.ABORTED or not was_admitted(served):
            continue
        if server.drain_began is None or served.closed is None or server.answers_at_once is None:
            continue
        deadline = server.drain_began + server.drain_seconds
        if served.closed < deadline - DRAIN_TOLD_LATE:
            continue
        moved = [
            each
            for each in (served.opened, served.taken_at, served.put_at, served.acknowledged_at)
            if each is not None
        ]
        if not moved or max(moved) > deadline - AT_REST:
            continue
        if may_be_sending(server, served, client) or server.drain_began > deadline - AT_REST:
            continue
        if history.held_up(server, since=deadline - 2 * AT_REST, until=deadline):
            continue
        yield (
            f"{client} was aborted at the end of the drain, and had been at rest for "
            f"{deadline - max(moved):.3f} s"
        )
