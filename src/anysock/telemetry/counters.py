"""What a server has done so far, counted from its events."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

from anysock.telemetry.events import CloseReason, Events

if TYPE_CHECKING:
    from anysock.streams.connection import Connection

#: Why connections may have ended, as `Counters.figures` says it.
REASONS = tuple(reason.name.lower() for reason in CloseReason)

#: Upper bounds (s) of the buckets of `Counters.durations`; one more bucket counts the rest.
DURATION_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 21_600, 86_400)


class Counters(Events):
    """What a server has done so far: the first listener to its events.

    Everything here is counted once a connection, and nothing once a message: what a connection
    moves is asked of its stream, which keeps count anyway.
    """

    def __init__(self) -> None:
        #: How many peers were accepted.
        self.accepted = 0
        #: How many handlers raised.
        self.handler_failures = 0
        #: How many times accept(2) failed, for whatever reason.
        self.accept_errors = 0
        #: Bytes of the connections that are closed.
        self.bytes_received = 0
        self.bytes_sent = 0
        #: How many clients had to wait, by the option that made them.
        self.waited: Counter[str] = Counter()
        #: How many connections were closed, by reason.
        self.closed: Counter[CloseReason] = Counter()
        #: How many connections have lasted how long, by `DURATION_BUCKETS`.
        self.durations = [0] * (len(DURATION_BUCKETS) + 1)
        #: How many seconds they have lasted, all together.
        self.seconds = 0.0
        #: The connections that are open, and when each was accepted, by `Engine.now`.
        self.open: dict[Connection, float] = {}
        #: Datagrams, and their bytes; and those that were not answered, by the reason.
        self.datagrams_received = 0
        self.datagrams_sent = 0
        self.datagram_bytes_received = 0
        self.datagram_bytes_sent = 0
        self.refused: Counter[str] = Counter()
        # Under `threads` many count at once, and ``+=`` is more than one step.
        self._lock = threading.Lock()
        self._reported_received = 0
        self._reported_sent = 0

    def connection_accepted(self, connection: Connection, at: float) -> None:
        with self._lock:
            self.accepted += 1
            self.open[connection] = at

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        lasted = connection.lasted or 0.0
        with self._lock:
            del self.open[connection]
            self.closed[reason] += 1
            self.bytes_received += connection.bytes_received
            self.bytes_sent += connection.bytes_sent
            self.durations[bisect_left(DURATION_BUCKETS, lasted)] += 1
            self.seconds += lasted
            if reason is CloseReason.FAILED:
                self.handler_failures += 1

    def client_waited(self, limit: str) -> None:
        with self._lock:
            self.waited[limit] += 1

    def accept_error(self, error: Exception) -> None:
        with self._lock:
            self.accept_errors += 1

    def datagram_received(self, size: int) -> None:
        with self._lock:
            self.datagrams_received += 1
            self.datagram_bytes_received += size

    def datagram_sent(self, size: int) -> None:
        with self._lock:
            self.datagrams_sent += 1
            self.datagram_bytes_sent += size

    def datagram_refused(self, reason: str) -> None:
        with self._lock:
            self.refused[reason] += 1

    def oldest(self, limit: int | None) -> list[tuple[Connection, float]]:
        """The connections that have been open for longest, at most `limit` of them (None: all),
        each with the time at which it was accepted. May be called from any thread."""
        with self._lock:
            return list(itertools.islice(self.open.items(), limit))

    def figures(self) -> dict[str, Any]:
        """All of it, as it was at one moment; the bytes with those of open connections.

        May be called from any thread, and holds nobody up: while it counts the bytes of 10,000
        open connections, others come and go.
        """
        closed = dict.fromkeys(REASONS, 0)
        with self._lock:
            closed |= {reason.name.lower(): number for reason, number in self.closed.items()}
            still_open = list(self.open)
            found: dict[str, Any] = {
                "connections": len(still_open),
                "accepted": self.accepted,
                "closed": closed,
                "waited": dict(self.waited),
                "datagrams_received": self.datagrams_received,
                "datagrams_sent": self.datagrams_sent,
                "datagram_bytes_received": self.datagram_bytes_received,
                "datagram_bytes_sent": self.datagram_bytes_sent,
                "datagrams_refused": dict(self.refused),
                "handler_failures": self.handler_failures,
                "accept_errors": self.accept_errors,
                "durations": list(self.durations),
                "seconds": self.seconds,
            }
            received, sent = self.bytes_received, self.bytes_sent
        # A connection that ends meanwhile is counted as open once more, and next time as closed: no
        # byte is missed or counted twice.
        received += sum(connection.bytes_received for connection in still_open)
        sent += sum(connection.bytes_sent for connection in still_open)
        with self._lock:
            # The header of a proxy and the handshake of TLS are counted until they are known to be
            # no part of the conversation. But a counter that goes back means a restart to whoever
            # reads it, who would then count all of it again.
            found["bytes_received"] = self._reported_received = max(
                received, self._reported_received
            )
            found["bytes_sent"] = self._reported_sent = max(sent, self._reported_sent)
        return found
