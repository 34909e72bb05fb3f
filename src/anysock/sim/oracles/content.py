"""Oracles of what arrives: the right bytes, in order, and none of them lost."""

from __future__ import annotations

from collections.abc import Iterator

from anysock.errors import StreamAborted, TlsTruncated
from anysock.sim.oracles.reasons import EXACT, LINGER
from anysock.sim.oracles.records import ClientRecord, History, Served, ServerRecord
from anysock.telemetry.events import CloseReason

# What fits into the smallest window that Linux gives a peer, and so is on its way at once.
_ON_ITS_WAY = 1_152


def bytes_are_right(history: History) -> Iterator[str]:
    """What a client has received is how the answer to what it has sent begins. Behind a prefix,
    that depends on where the server has ended the stream: what is cut off has none.

    Takes for granted that the server's record has `answers`.
    """
    for server, _, client in history.pairs:
        answers = server.answers
        if answers is None:
            continue
        sent, received = bytes(client.sent), bytes(client.received)
        wanted = answers(sent)
        cuts = range(len(sent)) if server.options.prefix else ()
        if not wanted.startswith(received) and not any(
            answers(sent[:cut]).startswith(received) for cut in cuts
        ):
            at = _first_difference(client.received, wanted)
            yield (
                f"{client} received wrong bytes at {at}: {_cut(client.received, at)}, "
                f"not {_cut(wanted, at)}"
            )


def no_byte_from_nowhere(history: History) -> Iterator[str]:
    """Nobody has received more than the other end has sent."""
    for _, served, client in history.pairs:
        if served.received > len(client.sent):
            yield (
                f"the server received {served.received} bytes of {client}, "
                f"which sent {len(client.sent)}"
            )
        if len(client.received) > served.sent:
            yield (
                f"{client} received {len(client.received)} bytes of the server, "
                f"which sent {served.sent}"
            )


def nothing_answered_is_lost(history: History) -> Iterator[str]:
    """What the server has sent before a graceful end has arrived at a client that went on reading
    until it met the end, be that a reset.

    Takes for granted that the client's record says truly whether it `keeps_reading`. A reset by a
    disturbance excuses a loss; so does one that a client causes which is still sending when the
    server closes, if its system has not taken more within the linger.
    """
    for server, served, client in history.pairs:
        lost = served.sent - len(client.received)
        if lost <= 0 or client.ended is None or not client.keeps_reading:
            continue
        if served.aborted or served.reason in (None, CloseReason.LOST):
            continue
        if history.killed(server, client):
            continue
        if client.end is not None and _was_not_taken(history, server, served, client, lost):
            continue
        yield (
            f"{client} has lost {lost} of the {served.sent} bytes that were sent to it: the server "
            f"says {_reason(served)}, it met {_end(client)}"
        )


def _was_not_taken(
    history: History, server: ServerRecord, served: Served, client: ClientRecord, lost: int
) -> bool:
    """Whether the client's system may have had no room for what is lost, for as long as the server
    waits for that."""
    assert client.ended is not None
    closed = client.ended if served.closed is None else served.closed
    if served.untaken is not None:
        # If a part of a record of TLS is lost, all of it is.
        all_of_it = served.untaken > 0 and (server.tls or lost <= served.untaken)
        return all_of_it and _has_waited(served, closed)
    # (It may be told long after the server has reset it, if what tells it is lost.)
    late = min(client.ended - LINGER, closed) - 4 * history.latency
    slow = history.held_up(server, client, since=late, until=client.ended)
    return slow or lost > _ON_ITS_WAY or 4 * history.latency > LINGER or server.tls


def _has_waited(served: Served, closed: float) -> bool:
    """Whether the server has waited for its peer for as long as it does, before it closed."""
    if served.let_go_at is None:
        return False
    return closed - max(served.let_go_at, served.put_at or 0.0) >= LINGER - EXACT


def what_ends_well_is_complete(history: History) -> Iterator[str]:
    """A client that has ended its stream, and got the end of the stream from a server that says
    ``DONE``, has the answer to all that it has sent.

    Takes for granted that the server's record has `answers`.
    """
    for server, served, client in history.pairs:
        if server.answers is None or served.reason is not CloseReason.DONE or served.aborted:
            continue
        if client.half_closed is None or client.unsent or not client.end_of_stream:
            continue
        wanted = server.answers(bytes(client.sent))
        if client.received != wanted:
            yield (
                f"{client} ended its stream, and got {len(client.received)} bytes and a good end "
                f"where {len(wanted)} were due"
            )


def an_abort_is_no_good_end(history: History) -> Iterator[str]:
    """A client whose connection was aborted is not told that the stream has ended well.

    An abort may come when all was sent, and the end of the stream too: so the end that the client
    met must be the later one. The end may also have been held up on its way, if it was sent before.
    """
    for server, served, client in history.pairs:
        if not (served.aborted and client.end_of_stream) or served.closed is None:
            continue
        assert client.ended is not None
        if client.ended < served.closed + history.latency - 1e-9:
            continue
        said = [each for each in (served.put_at, served.ended_at) if each is not None]
        if (
            said
            and max(said) < served.closed - EXACT
            and history.held_up(server, client, since=max(said), until=client.ended)
        ):
            continue
        if served.error is not None and not isinstance(served.error, StreamAborted):
            continue  # it had ended before, and all that was sent was still on its way
        # By TLS, the end is told before the connection is closed; and meanwhile, as it waits for
        # the peer to take that, it may still be aborted.
        complete = len(client.received) == served.sent and (
            server.answers is None
            or server.tls
            or client.received == server.answers(bytes(client.sent))
        )
        if not complete:
            yield (
                f"{client} was told of a good end of the stream after {len(client.received)} "
                f"bytes, though the server aborted it ({_reason(served)})"
            )


def resets_are_explained(history: History) -> Iterator[str]:
    """A client that was reset was aborted by the server, or reset by a disturbance, or had sent
    more than the server received, or had not been accepted when the server's time was over.

    A client may take itself for connected when its last segment of the three did not get through,
    or met a full backlog (listen(2)): such a one is not the server's yet.
    """
    known = {id(client): (server, served) for server, served, client in history.pairs}
    for client in history.clients:
        if client.end is None or client.ended is None or client.aborted is not None:
            continue
        found = known.get(id(client))
        if found is None:
            if client.connected is not None and not _never_accepted(history, client):
                yield f"{client} was reset, and no server knows of it"
            continue
        server, served = found
        if served.aborted or history.killed(server, client):
            continue
        if len(client.sent) > served.received:
            continue  # what comes after a close is answered by a reset
        if served.in_handshake and isinstance(client.end, TlsTruncated):
            continue  # the client has done its part of it: for the server, TLS has not begun
        if server.tls and client.half_closed is not None:
            continue  # its close_notify may have come after the close
        if isinstance(client.end, TlsTruncated) and _has_waited(served, served.closed or 0.0):
            continue  # for that of the server there was no room
        yield (
            f"{client} met {_end(client)}, though it had sent nothing that the server did not "
            f"receive, and the server says {_reason(served)}"
        )


def _never_accepted(history: History, client: ClientRecord) -> bool:
    """Whether there is a reason why a client that was connected was accepted by no server."""
    assert client.ended is not None
    for server in history.servers:
        if history.killed(server, client):
            return True
        if server.drain_began is None or client.connected is None:
            continue
        at = client.connected
        if history.held_up(server, client, since=at, until=at + 2 * history.latency):
            return True
        if history.backlog_was_full(server, client):
            return True
        # Its time in the backlog was over with the drain; or it knocked when that was closing.
        deadline = server.drain_began + server.drain_seconds
        if client.ended >= deadline - 0.1:
            return True
        if client.connected >= server.drain_began - 0.1 - 2 * history.latency:
            return True
    return False


def _reason(served: Served) -> str:
    told = "nothing" if served.reason is None else served.reason.name
    return f"{told} ({served.error})" if served.error is not None else told


def _end(client: ClientRecord) -> str:
    return "the end of the stream" if client.end is None else f"{client.end!r}"


def _first_difference(one: bytes | bytearray, other: bytes | bytearray) -> int:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))


def _cut(data: bytes | bytearray, at: int) -> str:
    shown = bytes(data[at : at + 12])
    return f"{shown!r}…" if len(data) > at + 12 else repr(shown)
