"""Oracles of the limits: none is ever exceeded."""

from __future__ import annotations

import math
from collections.abc import Iterator

from anysock.server.housekeeping import SETTLE_SECONDS
from anysock.server.time_limits import TimeLimits
from anysock.sim.oracles.reasons import DRAIN_TOLD_LATE, EXACT, LINGER
from anysock.sim.oracles.records import ClientRecord, History, Served, ServerRecord
from anysock.telemetry.events import CloseReason

#: Who is refused has no place among those that are counted.
REFUSED = {
    CloseReason.OVERFLOW,
    CloseReason.PER_SOURCE,
    CloseReason.ACCEPT_RATE,
    CloseReason.DENIED,
}

# Seconds that all may take that is to happen at once.
AT_ONCE = 0.25

# Seconds for which a receiver without room holds up what then comes at once: until it is asked.
WINDOW_SECONDS = 0.25


def no_more_connections_than_allowed(history: History) -> Iterator[str]:
    """No more are open than ``max_connections``, and no more of a source than ``per_source``."""
    for server in history.servers:
        most, each = server.options.max_connections, server.options.per_source
        for served in server.connections:
            if not was_admitted(served):
                continue
            if most is not None and served.open_before >= most:
                yield f"{served} came in where {served.open_before} of {most} were open"
            if each is not None and served.of_source_before >= each:
                yield (
                    f"{served} came in where {served.of_source_before} of {each} of its source "
                    "were open"
                )


def was_admitted(served: Served) -> bool:
    """Whether it was served, and not refused."""
    if served.reason is CloseReason.ABORTED and served.closed is not None:
        # So is told who waits for room, when a drain is over.
        return served.closed - served.accepted > EXACT
    return served.reason not in REFUSED


def no_more_bytes_than_allowed(history: History) -> Iterator[str]:
    """No client receives more than ``max_bytes``; and who sends more gets the whole answer to so
    many.

    How many bytes a handler has received is not known: a close throws away what comes behind them.
    The second half takes for granted that the server's record has `answers`.
    """
    for server, served, client in history.pairs:
        most = server.options.max_bytes
        if most is None:
            continue
        if len(client.received) > most:
            yield f"{client} received {len(client.received)} bytes, and may {most}"
        if served.reason is not CloseReason.MAX_BYTES or served.aborted or server.answers is None:
            continue
        if client.keeps_reading and client.end_of_stream:
            wanted = server.answers(bytes(client.sent[:most]))[:most]
            if len(client.received) != len(wanted):
                yield (
                    f"{client} received {len(client.received)} bytes until max_bytes was met, and "
                    f"{len(wanted)} were due"
                )


def no_faster_than_allowed(history: History) -> Iterator[str]:
    """A client receives no more than ``rate_limit`` says, over any span of time.

    What was held up on its way comes faster, so that only those are judged with whom nothing was
    done; and what came while a client was sending, and did not receive, may come at once then.
    """
    for server, _, client in history.pairs:
        rate = server.options.rate_limit
        if rate is None or not client.keeps_reading or not client.receives:
            continue
        since, until = client.began, client.receives[-1][0]
        if history.held_up(server, client, since=since, until=until):
            continue
        unread = sum(end - began for began, end in client.unread)
        before, lowest = 0, float("inf")
        for when, total in client.receives:
            lowest = min(lowest, before - rate * when)
            over = (
                total
                - rate * when
                - lowest
                - rate * (0.1 + WINDOW_SECONDS + 3 * history.latency + unread)
                - 1
            )
            if over > 1:
                yield f"{client} received {over:.0f} bytes more than {rate:g} bytes a second allow"
                break
            before = total


def nobody_comes_in_too_fast(history: History) -> Iterator[str]:
    """No more come in than ``accept_rate`` says, over any span of time; but those of the backlog,
    once the server does not listen any more, and one that has waited for room."""
    for server in history.servers:
        rate = server.options.accept_rate
        if rate is None:
            continue
        burst, lowest, number = max(rate * 0.1, 1.0), float("inf"), 0
        until = float("inf") if server.drain_began is None else server.drain_began
        for served in server.connections:
            if served.accepted >= until - DRAIN_TOLD_LATE or not was_admitted(served):
                continue
            lowest = min(lowest, number - rate * served.accepted)
            number += 1
            over = number - rate * served.accepted - lowest - burst
            if over > 1 + EXACT * rate:
                yield f"{served} came in too fast for {rate:g} connections a second"
                break


def nobody_stays_too_long(history: History) -> Iterator[str]:
    """A connection ends when it has lasted for ``max_lifetime``, when nothing has moved for
    ``idle_timeout``, and when its peer has taken nothing for ``write_timeout``; and soon.

    Checks come at intervals, and excuse connections while the server's host was held up. Takes for
    granted that the server's record has `answers`, since other handlers may take their time.
    """
    for server, served, client in history.pairs:
        limits = TimeLimits.of(server.options)
        interval = limits.check_interval
        if interval is None or server.answers is None or not was_admitted(served):
            continue
        closed = history.ended if served.closed is None else served.closed
        slack = 3 * interval + SETTLE_SECONDS + AT_ONCE + LINGER
        for name, since, limit in _clocks(server, served, client, limits):
            late = closed - since - limit - slack
            if late > 0 and not history.held_up(server, since=since, until=closed):
                yield (
                    f"{client}: {name} was met {closed - since:.3f} s after its clock began, and "
                    f"is to be met within {limit:g} s"
                )


def _clocks(
    server: ServerRecord, served: Served, client: ClientRecord, limits: TimeLimits
) -> Iterator[tuple[str, float, float]]:
    """Each limit of time, with when its clock began last, and how many seconds the limit is."""
    if limits.lifetime is not None:
        # Who does not end then has a grace.
        yield "max_lifetime", served.accepted, limits.lifetime + limits.grace
    opened = served.opened or served.accepted
    taken, acknowledged = served.taken_at, served.acknowledged_at
    moved = max(each for each in (opened, taken, acknowledged) if each is not None)
    # Who is being ended already has that grace, whatever else is met then.
    lasted = math.inf if served.closed is None else served.closed - served.accepted
    slow = limits.window if limits.min_rate else math.inf
    grace = limits.grace if lasted >= min(limits.lifetime or math.inf, slow) else 0.0
    if served.in_handshake:
        yield "handshake_timeout", served.accepted, server.options.handshake_timeout or math.inf
        return
    if limits.idle is not None:
        # What goes into the buffer of the socket moves, too, be it that the peer takes nothing.
        yield "idle_timeout", max(moved, served.put_at or moved), limits.idle + grace
    # What a rate limit sends bit by bit may all fit into the buffer of the socket.
    slowly = server.options.rate_limit is not None
    if limits.write is not None and not slowly and is_sending(server, served, client):
        yield "write_timeout", moved, limits.write + grace


def is_sending(server: ServerRecord, served: Served, client: ClientRecord) -> bool:
    """Whether the handler had not sent all that was due when the connection was closed."""
    if server.answers_at_once is None:
        return False
    due = len(server.answers_at_once(bytes(client.sent[: served.received])))
    return served.sent < due


def may_be_sending(server: ServerRecord, served: Served, client: ClientRecord) -> bool:
    """The same where the handler may have met the end of the stream, after which more is due."""
    if server.answers is None:
        return True
    return served.sent < len(server.answers(bytes(client.sent[: served.received])))
