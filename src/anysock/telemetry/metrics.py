"""The figures of a server, as plain data: what they are, and how those of several are added.

A snapshot is a dict that JSON can represent, so that it can come from another process. `METRICS`
says what is in it; the endpoint that shows it and its documentation are made from that table.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from anysock.engines.base import Engine
from anysock.telemetry.counters import DURATION_BUCKETS, Counters
from anysock.telemetry.events import CloseReason
from anysock.telemetry.logs import lines_lost

#: The figures of a server, or of several: numbers, lists of numbers, and numbers by name.
Snapshot: TypeAlias = dict[str, Any]

# Reasons to close that are limits, and the options that set them.
_LIMITS = {
    CloseReason.IDLE: "idle_timeout",
    CloseReason.WRITE_TIMEOUT: "write_timeout",
    CloseReason.TOO_SLOW: "min_rate",
    CloseReason.LIFETIME: "max_lifetime",
    CloseReason.MAX_BYTES: "max_bytes",
    CloseReason.MEMORY: "max_memory",
    CloseReason.OVERFLOW: "max_connections",
    CloseReason.PER_SOURCE: "per_source",
    CloseReason.ACCEPT_RATE: "accept_rate",
    CloseReason.DENIED: "deny",
}


class Kind(enum.Enum):
    """The types of metrics, by their names in Prometheus."""

    #: A number that only rises, from 0 at the start.
    COUNTER = "counter"
    #: A number that rises and falls.
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One figure of a snapshot, and how it is exported to Prometheus."""

    #: Its key in a snapshot.
    key: str
    #: Its name, without the suffix of a counter (``_total``).
    name: str
    kind: Kind
    help: str
    #: The name of its label, if the value is a dict.
    label: str | None = None
    #: Whether the value for several workers is the largest of theirs, not the sum.
    largest: bool = False

    @property
    def full_name(self) -> str:
        """Its name, as Prometheus shows it."""
        return self.name + ("_total" if self.kind is Kind.COUNTER else "")


METRICS = (
    Metric(
        "connections",
        "anysock_connections_open",
        Kind.GAUGE,
        "Open connections.",
    ),
    Metric(
        "most_connections",
        "anysock_connections_limit",
        Kind.GAUGE,
        "Maximum of open connections.",
        largest=True,
    ),
    Metric(
        "accepted",
        "anysock_connections_accepted",
        Kind.COUNTER,
        "Connections accepted, including those closed at once by a limit.",
    ),
    Metric(
        "closed",
        "anysock_connections_closed",
        Kind.COUNTER,
        "Connections closed, by reason.",
        label="reason",
    ),
    Metric(
        "durations",
        "anysock_connection_duration_seconds",
        Kind.HISTOGRAM,
        "Duration of closed connections.",
    ),
    Metric(
        "limits_met",
        "anysock_limits_met",
        Kind.COUNTER,
        "Times that a limit made a client wait or closed a connection, by option.",
        label="limit",
    ),
    Metric(
        "bytes_received",
        "anysock_received_bytes",
        Kind.COUNTER,
        "Bytes received, on open connections as well.",
    ),
    Metric(
        "bytes_sent",
        "anysock_sent_bytes",
        Kind.COUNTER,
        "Bytes sent, on open connections as well.",
    ),
    Metric(
        "pauses",
        "anysock_reading_pauses",
        Kind.COUNTER,
        "Times that a handler had to wait, and read no more, because its client did not read.",
    ),
    Metric(
        "resumes",
        "anysock_reading_resumes",
        Kind.COUNTER,
        "Times that such a handler went on; equal to the pauses once all connections are closed.",
    ),
    Metric(
        "log_lines_lost",
        "anysock_log_lines_lost",
        Kind.COUNTER,
        "Log lines lost: nobody read them in time, or they could not be written.",
    ),
    Metric(
        "datagrams_received",
        "anysock_datagrams_received",
        Kind.COUNTER,
        "Datagrams received (udp://).",
    ),
    Metric(
        "datagrams_sent",
        "anysock_datagrams_sent",
        Kind.COUNTER,
        "Datagrams answered.",
    ),
    Metric(
        "datagrams_refused",
        "anysock_datagrams_refused",
        Kind.COUNTER,
        "Datagrams not answered, by reason.",
        label="reason",
    ),
    Metric(
        "datagram_bytes_received",
        "anysock_datagrams_received_bytes",
        Kind.COUNTER,
        "Bytes of the datagrams received.",
    ),
    Metric(
        "datagram_bytes_sent",
        "anysock_datagrams_sent_bytes",
        Kind.COUNTER,
        "Bytes of the answers.",
    ),
    Metric(
        "handler_failures",
        "anysock_handler_failures",
        Kind.COUNTER,
        "Handlers that raised. The log shows each, or counts those it leaves out.",
    ),
    Metric(
        "accept_errors",
        "anysock_accept_errors",
        Kind.COUNTER,
        "Times that accept(2) failed, for want of descriptors or because the client was gone.",
    ),
    Metric(
        "lag",
        "anysock_loop_lag_seconds",
        Kind.GAUGE,
        "Event-loop lag: how late the last periodic wake-up was, or how overdue the current is.",
        largest=True,
    ),
    Metric(
        "highest_lag",
        "anysock_loop_lag_highest_seconds",
        Kind.GAUGE,
        "Highest event-loop lag of the last minute.",
        largest=True,
    ),
    Metric(
        "stuck",
        "anysock_workers_stuck",
        Kind.GAUGE,
        "Workers that count as dead (see /healthz): their engine has been held up for too long.",
    ),
    Metric(
        "workers",
        "anysock_workers",
        Kind.GAUGE,
        "Worker processes that serve; 1 without workers.",
    ),
)

_LARGEST = frozenset(metric.key for metric in METRICS if metric.largest)
# Figures of a worker that mean nothing once it has ended.
_MOMENTARY = frozenset(metric.key for metric in METRICS if metric.kind is Kind.GAUGE)


def snapshot(counters: Counters, engine: Engine | None, **more: float) -> Snapshot:
    """The figures of one server, now. May be called from any thread.

    `more` are figures that the counters do not have: `most_connections`, `lag`, ….
    """
    found = counters.figures()
    waited: dict[str, int] = found.pop("waited")
    closed: dict[str, int] = found["closed"]
    met = dict.fromkeys(_LIMITS.values(), 0)
    for reason, limit in _LIMITS.items():
        met[limit] += closed[reason.name.lower()]
    for limit, count in waited.items():
        met[limit] = met.get(limit, 0) + count
    found["limits_met"] = met
    found["pauses"] = 0 if engine is None else engine.pauses.begun
    found["resumes"] = 0 if engine is None else engine.pauses.ended
    found["log_lines_lost"] = lines_lost()
    return found | {"workers": 1} | more


def add(snapshots: Iterable[Mapping[str, Any]]) -> Snapshot:
    """The figures of several servers as those of one: sums, or the largest where a sum would mean
    nothing. A figure that a snapshot lacks counts as 0.

    >>> add([{"connections": 2, "lag": 0.5}, {"connections": 3, "lag": 0.1}])
    {'connections': 5, 'lag': 0.5}
    """
    total: Snapshot = {}
    for each in snapshots:
        for key, value in each.items():
            total[key] = _together(key, total[key], value) if key in total else value
    return total


def _together(key: str, one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return add([one, other])
    if isinstance(one, list):
        return [left + right for left, right in zip(one, other, strict=True)]
    return max(one, other) if key in _LARGEST else one + other


def what_remains(of: Mapping[str, Any]) -> Snapshot:
    """The figures of a worker that still count once it has ended: its counters. Added to those of
    the other workers, they keep every counter from going back. (Connections that were lost with a
    worker are not in `closed`.)"""
    return {key: value for key, value in of.items() if key not in _MOMENTARY}


def reference() -> str:
    """``docs/reference/metrics.md``: the table of all metrics, in Markdown."""
    rows = [
        "# Metrics",
        "",
        "What `/metrics` of the [admin endpoint](../howto/observe.md) shows. Made from the table",
        "in `src/anysock/telemetry/metrics.py` by `make docs/reference/metrics.md`.",
        "With workers, the figures of all are added, except where it says *the largest*.",
        "",
        "| metric | type | meaning |",
        "|---|---|---|",
    ]
    for metric in METRICS:
        label = f"{{{metric.label}}}" if metric.label else ""
        largest = " The largest of all workers." if metric.largest else ""
        rows.append(
            f"| `{metric.full_name}{label}` | {metric.kind.value} | {metric.help}{largest} |"
        )
    bounds = ", ".join(f"{bound:g}" for bound in DURATION_BUCKETS)
    rows += [
        "",
        f"The upper bounds of the duration buckets are {bounds} seconds.",
        "",
        "## Reasons to close a connection",
        "",
        "The values of `reason`, here and in the access log:",
        "",
        "| reason | in words | option |",
        "|---|---|---|",
    ]
    for reason in CloseReason:
        option = _LIMITS.get(reason)
        flag = f"`--{option.replace('_', '-')}`" if option else ""
        rows.append(f"| `{reason.name.lower()}` | {reason.value} | {flag} |")
    return "\n".join(rows) + "\n"
