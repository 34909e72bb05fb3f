"""The figures of a server, as plain data: what they are, and how those of several add up.

A snapshot is a dict that JSON can carry, so that it can come from another process. `METRICS` says
what is in it; the endpoint that shows it, and its documentation, are made from that table.
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
    """What Prometheus calls the type of a metric."""

    #: It only rises, from 0 at the start.
    COUNTER = "counter"
    #: It goes up and down.
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One figure of a snapshot, and how Prometheus is told of it."""

    #: Where it is in a snapshot.
    key: str
    #: Its name, without what a counter's ends with (``_total``).
    name: str
    kind: Kind
    help: str
    #: What it is told apart by, if it is.
    label: str | None = None
    #: Whether that of several workers is the largest of theirs, and not the sum.
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
        "Connections that are open now.",
    ),
    Metric(
        "most_connections",
        "anysock_connections_limit",
        Kind.GAUGE,
        "The most connections that there may be at once.",
        largest=True,
    ),
    Metric(
        "accepted",
        "anysock_connections_accepted",
        Kind.COUNTER,
        "Connections that were accepted, those that were closed at once among them.",
    ),
    Metric(
        "closed",
        "anysock_connections_closed",
        Kind.COUNTER,
        "Connections that have ended, by the reason.",
        label="reason",
    ),
    Metric(
        "durations",
        "anysock_connection_duration_seconds",
        Kind.HISTOGRAM,
        "How long the connections lasted that have ended.",
    ),
    Metric(
        "limits_met",
        "anysock_limits_met",
        Kind.COUNTER,
        "How often a limit made a client wait, or closed a connection, by the option.",
        label="limit",
    ),
    Metric(
        "bytes_received",
        "anysock_received_bytes",
        Kind.COUNTER,
        "Bytes received, on open connections, too.",
    ),
    Metric(
        "bytes_sent",
        "anysock_sent_bytes",
        Kind.COUNTER,
        "Bytes sent, on open connections, too.",
    ),
    Metric(
        "pauses",
        "anysock_reading_pauses",
        Kind.COUNTER,
        "How often a client that did not read made a handler wait, which then reads no more of it.",
    ),
    Metric(
        "resumes",
        "anysock_reading_resumes",
        Kind.COUNTER,
        "How often such a handler went on. As many as the pauses, once all have gone.",
    ),
    Metric(
        "log_lines_lost",
        "anysock_log_lines_lost",
        Kind.COUNTER,
        "Lines of the log that nobody read in time, or that could not be written.",
    ),
    Metric(
        "datagrams_received",
        "anysock_datagrams_received",
        Kind.COUNTER,
        "Datagrams that have come (udp://).",
    ),
    Metric(
        "datagrams_sent",
        "anysock_datagrams_sent",
        Kind.COUNTER,
        "Datagrams that were answered.",
    ),
    Metric(
        "datagrams_refused",
        "anysock_datagrams_refused",
        Kind.COUNTER,
        "Datagrams that were not answered, by the reason.",
        label="reason",
    ),
    Metric(
        "datagram_bytes_received",
        "anysock_datagrams_received_bytes",
        Kind.COUNTER,
        "Bytes of the datagrams that have come.",
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
        "Handlers that raised. Each is in the log, or counted there.",
    ),
    Metric(
        "accept_errors",
        "anysock_accept_errors",
        Kind.COUNTER,
        "How often accept(2) failed, for want of descriptors or because a client was gone again.",
    ),
    Metric(
        "lag",
        "anysock_loop_lag_seconds",
        Kind.GAUGE,
        "How late the engine comes to what is due; while it is held up, for how long by now.",
        largest=True,
    ),
    Metric(
        "highest_lag",
        "anysock_loop_lag_highest_seconds",
        Kind.GAUGE,
        "The most that it was late within the last minute.",
        largest=True,
    ),
    Metric(
        "stuck",
        "anysock_workers_stuck",
        Kind.GAUGE,
        "Workers whose engine is held up for so long that they count as dead.",
    ),
    Metric(
        "workers",
        "anysock_workers",
        Kind.GAUGE,
        "Processes that serve.",
    ),
)

_LARGEST = frozenset(metric.key for metric in METRICS if metric.largest)
# What is true of a worker only while it lives.
_PASSING = frozenset(metric.key for metric in METRICS if metric.kind is Kind.GAUGE)


def snapshot(counters: Counters, engine: Engine | None, **more: float) -> Snapshot:
    """The figures of one server, now. May be called from any thread.

    `more` are figures that the server's counters know nothing of: `most_connections`, `lag`, ….
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
    """The figures of several servers as those of one: sums, and the largest where a sum would mean
    nothing. A figure that is not in each counts as 0 where it is missing.

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
    """What still counts of the figures of a worker that is gone: what it has done. Added to those
    of the living, no counter ever goes back. (Whose connections were lost with it: `closed` does
    not know of them.)"""
    return {key: value for key, value in of.items() if key not in _PASSING}


def reference() -> str:
    """``docs/reference/metrics.md``: the table of all metrics, in Markdown."""
    rows = [
        "# Metrics",
        "",
        "What `/metrics` of the [admin endpoint](../howto/observe.md) shows. Made from the table",
        "in `src/anysock/telemetry/metrics.py` by `make docs/reference/metrics.md`.",
        "With workers, those of all are added up, unless it says *the largest*.",
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
        f"The buckets of the durations end at {bounds} seconds.",
        "",
        "## Why a connection has ended",
        "",
        "The values of `reason`, which the access log has, too:",
        "",
        "| reason | in words | option |",
        "|---|---|---|",
    ]
    for reason in CloseReason:
        option = _LIMITS.get(reason)
        flag = f"`--{option.replace('_', '-')}`" if option else ""
        rows.append(f"| `{reason.name.lower()}` | {reason.value} | {flag} |")
    return "\n".join(rows) + "\n"
