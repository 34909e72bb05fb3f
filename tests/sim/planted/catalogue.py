"""The planted faults, by name: ten handlers, ten in limits and admission, ten in streams and the
drain; and those that were found in use once, planted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.sim.planted.planting import Change

_HANDLERS = "tests.sim.planted.handlers"


@dataclass(frozen=True)
class Planted:
    """A fault. Where `handler` is not a standard one, it is what serves while the fault is there:
    it is the fault itself if there are no changes."""

    name: str
    room: str
    says: str
    changes: tuple[Change, ...] = ()
    handler: str = "echo"
    check: str = "echo"
    #: Options of the server without which it is not met.
    options: Mapping[str, Any] = field(default_factory=dict)


def _handler(name: str, says: str, check: str = "echo") -> Planted:
    return Planted(name, "handler", says, (), f"{_HANDLERS}:{name}", check)


HANDLERS = (
    _handler("answers_a_part_twice", "half a line is answered twice", "lines"),
    _handler("loses_the_last_line", "what ends without a newline gets no answer"),
    _handler("answers_with_another_message", "clients share a variable across an await"),
    _handler("has_one_buffer_for_all", "clients share a buffer", "lines"),
    _handler("forgets_to_close", "a connection of its own stays open"),
    _handler("swallows_its_cancellation", "it does not end when it is cancelled"),
    _handler("answers_out_of_order", "short messages overtake long ones"),
    _handler("misses_a_newline", "a newline that comes first in a chunk is not seen", "lines"),
    _handler("waits_after_the_end", "a half-close is not answered by an end"),
    _handler("leaks_a_task", "a task for each client never ends"),
)

_SESSION = "server/session.py"
_TIMES = "server/time_limits.py"
_ADMISSION = "server/admission.py"


def _limit(name: str, says: str, file: str, old: str, new: str, **more: Any) -> Planted:
    return Planted(name, "limit", says, (Change(file, old, new),), **more)


LIMITS = (
    _limit(
        "a_free_slot_wakes_nobody",
        "who waits for room is not told of it",
        "server/gate.py",
        "        self._slots.give_back()\n        self.notify()\n",
        "        self._slots.give_back()\n",
    ),
    _limit(
        "a_lost_peer_is_still_counted",
        "the count of a source is not given back after a reset",
        _SESSION,
        "            self._give_back()\n            if not self._told_opened:\n",
        "            self._counted = self._counted and reason is not CloseReason.LOST\n"
        "            self._give_back()\n            if not self._told_opened:\n",
    ),
    _limit(
        "one_byte_more_than_max_bytes",
        "max_bytes is off by one",
        "server/handshake.py",
        "most, rate = options.max_bytes, options.rate_limit",
        "most, rate = options.max_bytes and options.max_bytes + 1, options.rate_limit",
    ),
    _limit(
        "receiving_is_idle",
        "the idle clock does not look at what is received",
        _TIMES,
        "    moved: int = stream.bytes_received + stream.bytes_sent\n",
        "    moved: int = stream.bytes_sent\n",
        handler="lines",
        check="lines",
    ),
    _limit(
        "one_connection_more",
        "max_connections is off by one",
        _ADMISSION,
        "            if self.taken >= self.most:\n",
        "            if self.taken > self.most:\n",
    ),
    _limit(
        "the_grace_has_no_end",
        "who does not end after a limit is never aborted",
        _SESSION,
        "            if now - self._ended_at >= limits.grace:\n                self.abort()\n",
        "",
    ),
    _limit(
        "an_abort_keeps_its_slot",
        "an aborted connection does not give back its slot",
        _SESSION,
        "        if self._has_slot:\n",
        "        if self._has_slot and not self.aborted:\n",
    ),
    _limit(
        "a_slow_reader_is_cut",
        "progress does not renew the write timeout",
        _TIMES,
        "        if progress is None or progress != self.progress:\n",
        "        if progress is None:\n",
    ),
    _limit(
        "the_refused_are_counted",
        "a source that was refused once too often stays refused",
        _ADMISSION,
        "                if self._sources[source] >= self._per_source:\n"
        "                    return CloseReason.PER_SOURCE\n"
        "                self._sources[source] += 1\n",
        "                self._sources[source] += 1\n"
        "                if self._sources[source] > self._per_source:\n"
        "                    return CloseReason.PER_SOURCE\n",
    ),
    _limit(
        "a_shortage_ends_accepting",
        "the accept loop dies of EMFILE",
        "server/accept_policy.py",
        '_BACK_OFF = _known("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")',
        '_BACK_OFF = _known("ENOMEM")',
    ),
)

_STREAM = "engines/nonblocking/streams.py"


def _stream(name: str, says: str, file: str, old: str, new: str, **more: Any) -> Planted:
    return Planted(name, "stream", says, (Change(file, old, new),), **more)


STREAMS = (
    _stream(
        "the_rest_is_dropped",
        "of a send, what does not go at the second try is dropped",
        _STREAM,
        "                while data:\n                    self._state.check_send()\n",
        "                for _ in range(1):\n                    self._state.check_send()\n",
    ),
    _stream(
        "the_rest_begins_too_early",
        "the last byte of a partial send goes twice",
        _STREAM,
        "self._send_rest(memoryview(data)[sent:], sent)",
        "self._send_rest(memoryview(data)[max(sent - 1, 0) :], sent)",
    ),
    _stream(
        "no_linger",
        "a close with unread data destroys the answer",
        "engines/posix/streams.py",
        "                await self._let_go()\n",
        "                pass\n",
    ),
    _stream(
        "the_drain_resets_the_backlog",
        "who waits in the backlog is not served when the server drains",
        "engines/posix/listening.py",
        "        if self.backlog is not Backlog.SERVE:\n",
        "        if self.backlog is Backlog.SERVE:\n",
    ),
    _stream(
        "a_loss_is_told_as_done",
        "the close reason is wrong",
        "server/verdicts.py",
        "    if reason is not CloseReason.DONE:\n        return reason, lost\n",
        "    if reason is not CloseReason.DONE:\n"
        "        return (CloseReason.DONE if reason is CloseReason.LOST else reason), lost\n",
    ),
    _stream(
        "bytes_are_not_counted",
        "the counters leave out what lost connections have sent",
        "telemetry/counters.py",
        "            self.bytes_sent += connection.bytes_sent\n",
        "            self.bytes_sent += connection.bytes_sent * (reason is not CloseReason.LOST)\n",
    ),
    _stream(
        "the_drain_forgets_silent_ones",
        "a drain does not end those that have said nothing",
        _SESSION,
        "        elif self.activity.is_at_rest(stream, now) and self.ended is None:\n",
        "        elif (\n"
        "            self.activity.is_at_rest(stream, now)\n"
        "            and self.ended is None\n"
        "            and stream.bytes_received\n"
        "        ):\n",
    ),
    _stream(
        "a_sender_is_not_woken",
        "data from a peer makes the loop forget who waits to send to it",
        "loop/kernel.py",
        "            if fd in self.writers:\n                interest |= WRITABLE\n",
        "",
    ),
    _stream(
        "the_drain_has_no_deadline",
        "a drain waits for whoever does not end",
        "server/traffic.py",
        "while self.busy and (left := began + seconds - engine.now()) > 0:",
        "while self.busy and (left := max(began + seconds - engine.now(), CHECK_SECONDS)) > 0:",
    ),
    _stream(
        "an_abort_is_no_reset",
        "the peer of an aborted connection takes what it has for all",
        "engines/posix/streams.py",
        "        with contextlib.suppress(OSError):\n"
        "            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)\n"
        "        self._shut_down(socket.SHUT_RD)\n",
        "        self._shut_down(socket.SHUT_RD)\n",
    ),
)


def _again(name: str, says: str, *changes: Change, **more: Any) -> Planted:
    return Planted(name, "history", says, changes, **more)


HISTORY = (
    _again(
        "a_second_sender_comes_in_between",
        "bytes of another task land inside of a send",
        Change(
            _STREAM,
            "        self._write_fd = NOT_NOW\n        return self._send_rest(",
            "        return self._send_rest(",
        ),
        handler=f"{_HANDLERS}:has_a_second_sender",
    ),
    _again(
        "a_delay_changes_max_bytes",
        "with --delay, fewer bytes come through --max-bytes",
        Change(
            "faults/delay.py",
            "        return None if isinstance(lost, TooManyBytes) else lost\n",
            "        return lost\n",
        ),
        options={"delay": 0.2},
        handler="lines",
        check="lines",
    ),
    _again(
        "a_drain_ends_all_limits",
        "no limit of time is kept while the server drains",
        Change(
            "server/ending.py",
            "        traffic.stop_listening()\n        # (Where",
            "        traffic.stop_listening()\n        traffic.close()\n        # (Where",
        ),
    ),
    _again(
        "an_abort_is_told_as_a_limit",
        "who was ended for a limit and then aborted by the drain is told as the first",
        Change(
            _SESSION,
            "        self.ended = CloseReason.ABORTED\n        self.abort()\n",
            "        self.ended = self.ended or CloseReason.ABORTED\n        self.abort()\n",
        ),
    ),
    _again(
        "a_client_makes_a_handler_fail",
        "too many bytes, then a reset: an error with a traceback",
        Change(
            "server/verdicts.py",
            "    return isinstance(error, ConnectionError) or (\n"
            "        isinstance(error, OSError) and (error is lost or error.errno in PEER_GONE)\n"
            "    )\n",
            "    return error is lost\n",
        ),
        handler="lines",
        check="lines",
    ),
    _again(
        "a_handler_that_drains_waits_for_itself",
        "drain() in a handler aborts that very client at the deadline",
        Change(
            "server/ending.py",
            "        return self.traffic.sessions.is_handled_by("
            "self._enter_engine().current_task())\n",
            "        return False\n",
        ),
        handler=f"{_HANDLERS}:drains_the_server",
    ),
    _again(
        "a_shortage_resets_the_backlog",
        "EMFILE while the listener closes resets those that wait",
        Change(
            "engines/posix/listening.py",
            "            if error.errno in _SHORTAGES and has_waiting(self.sock):\n",
            "            if False:\n",
        ),
    ),
    _again(
        "a_stop_makes_all_idle",
        "who sent while the process was stopped is cut off as idle",
        Change("server/housekeeping.py", "LATE_SECONDS = 0.1\n", "LATE_SECONDS = 1e9\n"),
        Change(
            "server/housekeeping.py",
            "                elif session.is_silent(now, limits):\n"
            "                    silent.append(session)\n",
            "",
        ),
        options={"idle_timeout": 0.5},
    ),
)

ALL = {each.name: each for each in (*HANDLERS, *LIMITS, *STREAMS, *HISTORY)}


def thirty() -> Iterator[Planted]:
    """Those by which the power of the explorer is measured."""
    yield from (*HANDLERS, *LIMITS, *STREAMS)
