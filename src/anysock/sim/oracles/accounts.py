"""Oracles of what is told and what is left: all accounts agree, and nothing stays open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from anysock.sim.oracles.records import History, ServerRecord
from anysock.telemetry.counters import REASONS
from anysock.telemetry.events import CloseReason


def events_agree(history: History) -> Iterator[str]:
    """Each connection is told as accepted, opened and closed once, in this order, and all are
    closed at the end. A process that is killed tells no more."""
    for server in history.servers:
        for served in server.connections:
            if served.reason is None or served.closed is None:
                if history.killed(server):
                    continue
                yield f"{served} was never told as closed"
            elif served.told_opened != 1 or served.told_closed != 1:
                yield (
                    f"{served} was told as opened {served.told_opened} times, and as closed "
                    f"{served.told_closed} times"
                )
            elif served.opened is None or not (served.accepted <= served.opened <= served.closed):
                yield f"{served} was told as closed before it was opened"


def counters_agree(history: History) -> Iterator[str]:
    """The counters of a server say what its events say. (Those of a process that was killed are
    gone.)"""
    for server in history.servers:
        if not server.figures or history.killed(server):
            continue
        for name, wanted in _wanted(server):
            if (found := server.figures[name]) != wanted:
                yield f"the counter {name} says {found}, and the events {wanted}"


def _wanted(server: ServerRecord) -> Iterator[tuple[str, object]]:
    all_ = server.connections
    reasons = Counter(each.reason for each in all_ if each.reason is not None)
    yield "accepted", len(all_)
    yield "connections", sum(each.reason is None for each in all_)
    closed = {reason.name.lower(): number for reason, number in reasons.items()}
    yield "closed", dict.fromkeys(REASONS, 0) | closed
    yield "handler_failures", reasons[CloseReason.FAILED]
    yield "accept_errors", len(server.accept_errors)
    if all(each.reason is not None for each in all_):
        yield "bytes_received", sum(each.received for each in all_)
        yield "bytes_sent", sum(each.sent for each in all_)


def aborts_are_told(history: History) -> Iterator[str]:
    """Whom a drain had to abort is told as ``ABORTED``, and counted; and nobody else, where the
    server's record has `answers`. (The count of a process that was killed is gone.)"""
    for server in history.servers:
        if history.killed(server):
            continue
        told = sum(each.reason is CloseReason.ABORTED for each in server.connections)
        if server.drained is not None and server.drain_aborted != server.aborted:
            yield f"the drain told of {server.drain_aborted} aborts, and {server.aborted} count"
        wrong = told < server.aborted if server.answers is None else told != server.aborted
        if wrong:
            yield f"{server.aborted} connections count as aborted, and {told} were told so"


def nothing_fails(history: History) -> Iterator[str]:
    """No handler fails, and no task of a server; nor does a server end with an error. Accepting
    fails for reasons of the system only."""
    for server in history.servers:
        for served in server.connections:
            if served.failure is not None:
                yield f"the handler of {served.peer} failed: {served.failure!r}"
        for error in server.housekeeping_errors:
            yield f"a task of the server on {server.host} failed: {error!r}"
        for _, accept_error in server.accept_errors:
            if not isinstance(accept_error, OSError):
                yield f"accepting failed: {accept_error!r}"
        if server.failed is not None:
            yield f"the server on {server.host} ended with {server.failed!r}"


def nothing_is_left(history: History) -> Iterator[str]:
    """At the end, no host has a descriptor open, nor a task that has not ended."""
    for host in history.hosts:
        for descriptor in host.descriptors:
            yield f"{host.name} has left open {descriptor}"
        for task in host.tasks:
            yield f"{host.name} has left the task {task!r}"
