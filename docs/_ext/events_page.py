"""``docs/reference/events.md``: each event of `anysock.Events`: its fields, when it is emitted, and
what the log, the metrics and systemd make of it.

Made from the code: each event is emitted with the arguments of `SAMPLES` to the listeners that a
server has. `make docs/reference/events.md` writes the page.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anysock.errors import StartError
from anysock.systemd import Notifier, NotifyEvents
from anysock.telemetry import metrics
from anysock.telemetry.counters import Counters
from anysock.telemetry.events import CloseReason, Events
from anysock.telemetry.logs import LogEvents, TextFormatter


class _Connection:
    """As much of a connection as the listeners read."""

    peer = ("192.0.2.1", 61137)
    id = "4711-17"
    via = None
    of_proxy = False
    lasted = 0.25
    bytes_received = 120
    bytes_sent = 120


_PEER: Any = _Connection()
_NO_DESCRIPTORS = OSError(24, "Too many open files")

# With which arguments each event is emitted, once or several times.
SAMPLES: dict[str, list[tuple[Any, ...]]] = {
    "listening": [(["tcp://127.0.0.1:8000"], "selector")],
    "address_left_out": [("tcp://[::1]:8000", "Cannot assign requested address")],
    "connection_accepted": [(_PEER, 12.5)],
    "connection_opened": [(_PEER,)],
    "handler_failed": [(_PEER, ValueError("no number"))],
    "connection_closed": [
        (_PEER, CloseReason.DONE, None),
        (_PEER, CloseReason.TOO_SLOW, None),
        (_PEER, CloseReason.ABORTED, None),
        (_PEER, CloseReason.HANDSHAKE, StartError("no shared cipher")),
    ],
    "accept_error": [(_NO_DESCRIPTORS,)],
    "accept_failed": [(_NO_DESCRIPTORS, 3)],
    "housekeeping_failed": [("limits", MemoryError(), 0)],
    "lifespan_failed": [("start", ConnectionRefusedError(111, "Connection refused"))],
    "most_connections": [(100, False)],
    "limit_met": [("max_connections", "100 connections are open")],
    "client_waited": [("max_connections",)],
    "datagram_received": [(32,)],
    "datagram_sent": [(32,)],
    "datagram_refused": [("source_rate",)],
    "datagrams_refused": [("source_rate", ("192.0.2.1", 61137), 3)],
    "accepting_paused": [()],
    "accepting_resumed": [()],
    "reload_begun": [()],
    "reloaded": [()],
    "reload_failed": [(StartError("no certificate in cert.pem"),)],
    "certificate_doubtful": [("cert.pem has expired",)],
    "drain_delayed": [(5.0,)],
    "drain_left": [(12, 9.0)],
    "drain_begun": [(12, 10.0)],
    "drained": [(0, 1.25), (2, 10.0)],
    "workers_started": [([4711, 4712], 39940)],
    "worker_not_started": [("Too many open files",)],
    "worker_started": [(4711, 0), (4711, 2)],
    "worker_replaced": [(4711, 4713)],
    "worker_died": [
        (4711, "was killed by SIGKILL", "3 connections are lost", 0.1),
        (4711, "ended with code 1", "0 connections are lost", None),
    ],
    "worker_killed": [(4711,)],
    "workers_wanted": [(3, 2), (2, 3)],
    "workers_reloading": [(2,)],
    "gave_up": [(StartError("can't start the workers: Too many open files"), 10.0)],
}

# What other listeners make of an event: the admin endpoint keeps this one.
_MORE_METRICS = {"most_connections": ["anysock_connections_limit"]}

_HEAD = """\
# Events

What a server reports of itself: the methods of [`anysock.Events`](api.md). The log, the metrics
and the notification of systemd are listeners to these events;
[a listener of your own](../howto/observe.md) is a subclass that overrides the methods it needs.
Made from the code by `make docs/reference/events.md`.

The fields of an event are the arguments of its method. The log lines are examples, with the level
before those that need attention; *debug* marks those that need `--log-level debug`.
"""


def reference() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for name, method in vars(Events).items():
        if not name.startswith("_"):
            parts.append(_section(name, method))
    return "\n".join(parts)


def _section(name: str, method: Any) -> str:
    fields = [
        f"`{each.name}: {each.annotation}`"
        for each in inspect.signature(method).parameters.values()
        if each.name != "self"
    ]
    lines = [f"## `{name}`", "", inspect.cleandoc(method.__doc__), ""]
    if fields:
        lines.append(f"- Fields: {', '.join(fields)}")
    told = _Listeners(serving=name != "listening")
    for arguments in SAMPLES[name]:
        told.emit(name, arguments)
    if told.statuses:
        lines.append(f"- systemd: {', '.join(f'`{each}`' for each in told.statuses)}")
    if counted := sorted({*told.counted, *_MORE_METRICS.get(name, [])}):
        lines.append(f"- Metrics: {', '.join(f'`{each}`' for each in counted)}")
    if told.lines:
        lines += ["- Log:", "", "  ```text", *(f"  {each}" for each in told.lines), "  ```"]
    else:
        lines.append("- Log: nothing")
    return "\n".join(lines) + "\n"


class _Words(Notifier):
    """Keeps what it would tell systemd."""

    def __init__(self) -> None:
        super().__init__({})
        self.told: list[str] = []

    def _tell(self, **words: str) -> None:
        shown = ("READY", "RELOADING", "STOPPING", "STATUS")
        self.told += [f"{word}={words[word]}" for word in shown if words.get(word)]


class _Listeners:
    """The listeners of a server, and what they make of one event."""

    def __init__(self, *, serving: bool) -> None:
        self.lines: list[str] = []
        self.counted: set[str] = set()
        self._counters = Counters()
        self._words = _Words()
        self._notify = NotifyEvents(self._words)
        if serving:
            self._notify.listening(["tcp://127.0.0.1:8000"], "selector")
            self._words.told.clear()

    @property
    def statuses(self) -> list[str]:
        return self._words.told

    def emit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "connection_closed":
            self._counters.connection_accepted(_PEER, 0.0)
        before = metrics.snapshot(self._counters, None)
        with _kept(self.lines):
            for listener in (self._counters, LogEvents(), self._notify):
                getattr(listener, name)(*arguments)
        after = metrics.snapshot(self._counters, None)
        self.counted |= {
            each.full_name
            for each in metrics.METRICS
            if before.get(each.key) != after.get(each.key)
        }


@contextmanager
def _kept(lines: list[str]) -> Iterator[None]:
    """Within the block, the log is kept in `lines`, and goes nowhere else."""
    log = logging.getLogger("anysock")
    before = log.handlers[:], log.level, log.propagate
    log.handlers, log.propagate = [_Keeper(lines)], False
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])


class _Keeper(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self._formatter = TextFormatter()

    def emit(self, record: logging.LogRecord) -> None:
        # The first line: a traceback may follow.
        line = self._formatter.format(record).split("\n")[0]
        self._lines.append(f"debug: {line}" if record.levelno == logging.DEBUG else line)


if __name__ == "__main__":
    sys.stdout.write(reference())
