"""The oracle of close reasons: what the server says of an end is what client and network did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from anysock.server.time_limits import QUIET_SECONDS, TimeLimits
from anysock.sim.oracles.records import ClientRecord, History, Served, ServerRecord
from anysock.telemetry.events import CloseReason

# How exactly times are known: to look at a clock takes time, and so does a turn of a host.
EXACT = 0.001

# Seconds that a close may wait for its peer.
LINGER = 1.0

# For how many seconds what has come may lie there, at most, when a server judges that nothing has
# moved: so late may it look without excusing all, and then wait until all have had a turn
# (`server.housekeeping`, whose own figures might be what is wrong).
_UNHEARD = 0.15 + EXACT

# For how long after its beginning a drain is told of (`server.ending`).
DRAIN_TOLD_LATE = 0.06


class Case(NamedTuple):
    """One connection whose reason is judged. The client is None where it is not known."""

    history: History
    server: ServerRecord
    served: Served
    client: ClientRecord | None

    @property
    def closed(self) -> float:
        return self.served.closed or 0.0

    @property
    def killed(self) -> bool:
        return self.history.killed(self.server, self.client, until=self.closed)


def close_reasons_are_true(history: History) -> Iterator[str]:
    """Each close reason is one that what the client and the network did allows.

    ``DONE`` and ``NO_DATA`` are judged where the handler is known to return at the end of the
    stream only (`ServerRecord.answers`), and ``ABORTED`` where it does not abort by itself, which
    is taken for granted there. Times are compared in favour of the server.
    """
    clients = {id(served): client for _, served, client in history.pairs}
    for server in history.servers:
        for served in server.connections:
            if served.reason is None:
                continue
            case = Case(history, server, served, clients.get(id(served)))
            if (wrong := _JUDGES[served.reason](case)) is not None:
                name = served if case.client is None else case.client
                yield f"{name}: the server says {served.reason.name}, but {wrong}"


def _done(case: Case) -> str | None:
    client = case.client
    if case.server.answers is None or client is None:
        return None
    ended = [each for each in (client.half_closed, client.closed) if each is not None]
    # The system of one that has crashed has closed what it had open.
    ended += [
        each.began
        for each in case.history.done_to(case.server, client)
        if each.kind == "crashes" and client.host in each.hosts
    ]
    if not ended or min(ended) > case.closed:
        return "the client had not ended its stream"
    return None


def _no_data(case: Case) -> str | None:
    served, client = case.served, case.client
    if served.received or served.sent:
        return f"{served.received} bytes were received, and {served.sent} sent"
    if case.server.answers is None or client is None or case.killed:
        return None
    if client.half_closed is None and min(client.left, case.closed) == case.closed:
        return "the client was still there"
    return None


def _lost(case: Case) -> str | None:
    served, client = case.served, case.client
    if served.error is None:
        return "it does not say by which error"
    if client is None or case.killed or client.aborted is not None:
        return None
    if client.closed is not None and not client.end_of_stream:
        return None  # what comes after its close is answered by a reset
    return f"nobody reset it ({served.error})"


def _failed(case: Case) -> str | None:
    return None if case.served.failure is not None else "no failure was told"


def _drained(case: Case) -> str | None:
    server, served = case.server, case.served
    if server.drain_began is None or case.closed < server.drain_began - DRAIN_TOLD_LATE:
        return "no drain had begun"
    if server.tls:
        return None  # what is no whole record with data of the client counts as silence
    if served.silence is not None and served.silence < QUIET_SECONDS - EXACT:
        return f"it had been quiet for {served.silence:.3f} s only"
    return _was_not_heard(case)


def _idle(case: Case) -> str | None:
    server, served = case.server, case.served
    limit = server.options.idle_timeout
    if not limit:
        return "there is no idle timeout"
    if case.closed - served.accepted < limit - EXACT:
        return f"it was open for {case.closed - served.accepted:.3f} s only"
    # By TLS, what is no whole record with data of the client counts as silence.
    if served.silence is not None and not server.tls and served.silence < limit - EXACT:
        return f"it had been silent for {served.silence:.3f} s, and not {limit:g}"
    return _was_not_heard(case)


def _was_not_heard(case: Case) -> str | None:
    """What a client has sent counts as soon as its handler has had a turn: but where its answers
    are delayed, or cut, that may wait to receive for a reason of its own."""
    lain, options = case.served.lain, case.server.options
    if lain is None or lain <= _UNHEARD or options.rate_limit is not None or options.delay:
        return None
    if case.server.answers is None or case.server.tls:
        return None
    return f"what it had sent had lain there for {lain:.3f} s"


def _write_timeout(case: Case) -> str | None:
    served, limit = case.served, case.server.options.write_timeout
    if not limit:
        return "there is no write timeout"
    if served.acknowledged_at is not None:
        waited = case.closed - served.acknowledged_at
        if waited < limit - EXACT:
            return f"the peer had taken bytes {waited:.3f} s before, and may wait {limit:g}"
    return None


def _too_slow(case: Case) -> str | None:
    options, served = case.server.options, case.served
    if not options.min_rate:
        return "there is no minimum rate"
    open_for = case.closed - (served.opened or served.accepted)
    window = TimeLimits.of(options).window
    if open_for < window - EXACT:
        return f"it was open for {open_for:.3f} s, and the rate is taken over {window:g}"
    return None


def _lifetime(case: Case) -> str | None:
    limit = case.server.options.max_lifetime
    if not limit:
        return "there is no maximum lifetime"
    lasted = case.closed - case.served.accepted
    if lasted < limit - EXACT:
        return f"it has lasted {lasted:.3f} s, and may {limit:g}"
    return None


def _max_bytes(case: Case) -> str | None:
    options, client = case.server.options, case.client
    limit, answers = options.max_bytes, case.server.answers
    if client is None:
        return None
    if limit is None:
        # A line that is too long is told like this.
        if len(client.sent) > options.max_line:
            return None
        return "there is no limit"
    most = len(client.sent)
    if answers is None:
        return None
    most = max(most, len(answers(bytes(client.sent))))
    return f"the client has moved {most} bytes, and may {limit}" if most <= limit else None


def _memory(case: Case) -> str | None:
    # Where no option sets a limit, the machine does, and no history holds so much.
    return "there is no such limit" if case.server.options.max_memory is None else None


def _overflow(case: Case) -> str | None:
    options, before = case.server.options, case.served.open_before
    if options.overflow != "close":
        return "those that are too many wait"
    if options.max_connections is not None and before < options.max_connections:
        return f"{before} were open, and {options.max_connections} may be"
    return None


def _per_source(case: Case) -> str | None:
    limit, before = case.server.options.per_source, case.served.of_source_before
    if limit is None:
        return "there is no limit for a source"
    if before < limit:
        return f"its source had {before} open, and may have {limit}"
    return None


def _accept_rate(case: Case) -> str | None:
    options = case.server.options
    if options.accept_rate is None or options.overflow != "close":
        return "no rate closes connections"
    # The bucket is full after so many seconds without anybody.
    full = max(0.1, 1 / options.accept_rate)
    earlier = [
        each
        for each in case.server.connections
        if 0 <= case.served.accepted - each.accepted <= full and each is not case.served
    ]
    return None if earlier else f"nobody had come in the {full:.3f} s before"


def _denied(case: Case) -> str | None:
    options = case.server.options
    return None if options.allow or options.deny else "nobody is denied"


def _handshake(case: Case) -> str | None:
    tls = case.server.tls or case.server.options.tls_cert
    return None if tls else "there is no handshake"


def _proxy_header(case: Case) -> str | None:
    off = case.server.options.proxy_protocol == "off"
    return "no header was asked for" if off else None


def _outbox_full(case: Case) -> str | None:
    return "it has no outbox" if case.server.answers is not None else None


def _aborted(case: Case) -> str | None:
    server, served = case.server, case.served
    if server.answers is None or case.closed - served.accepted < EXACT:
        return None
    if server.drain_began is None:
        return "no drain had begun"
    deadline = server.drain_began + server.drain_seconds
    if case.closed < deadline - DRAIN_TOLD_LATE - EXACT:
        return f"the drain had {deadline - case.closed:.3f} s left"
    return None


_JUDGES: dict[CloseReason, Callable[[Case], str | None]] = {
    CloseReason.DONE: _done,
    CloseReason.NO_DATA: _no_data,
    CloseReason.LOST: _lost,
    CloseReason.FAILED: _failed,
    CloseReason.DRAINED: _drained,
    CloseReason.IDLE: _idle,
    CloseReason.WRITE_TIMEOUT: _write_timeout,
    CloseReason.TOO_SLOW: _too_slow,
    CloseReason.LIFETIME: _lifetime,
    CloseReason.MAX_BYTES: _max_bytes,
    CloseReason.MEMORY: _memory,
    CloseReason.OUTBOX_FULL: _outbox_full,
    CloseReason.OVERFLOW: _overflow,
    CloseReason.PER_SOURCE: _per_source,
    CloseReason.ACCEPT_RATE: _accept_rate,
    CloseReason.DENIED: _denied,
    CloseReason.HANDSHAKE: _handshake,
    CloseReason.PROXY_HEADER: _proxy_header,
    CloseReason.ABORTED: _aborted,
}
