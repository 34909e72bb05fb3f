"""What a server tells of itself: the table of its events, and the counters that listen to them.

The server logs nothing. It calls the methods of an `Events` object, once for each thing that
happens; `anysock.telemetry.logs` turns them into log lines. Subclass `Events`, override what you
want to know, and hand an instance to `anysock.Server`:

>>> class Bell(Events):
...     def connection_opened(self, connection):
...         print("\\a", end="")

Each connection has exactly one `connection_opened` and one `connection_closed`. Under the
`threads` engine events come from many threads at once.
"""

from __future__ import annotations

import enum
import inspect
import itertools
import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anysock.errors import WrongType

if TYPE_CHECKING:
    from anysock.engines.base import SockAddr
    from anysock.streams.connection import Connection

#: Up to so many seconds a connection lasts that is counted in each bucket of
#: `Counters.durations`; what lasts longer than the last is counted in one more.
DURATION_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 21_600, 86_400)

_log = logging.getLogger("anysock.events")


class CloseReason(enum.Enum):
    """Why a connection has ended."""

    #: The peer ended the stream, or the handler had no more to say.
    DONE = "done"
    #: The peer ended the stream, or reset it, before its first byte: a load balancer's health
    #: check.
    NO_DATA = "closed before its first byte"
    #: The peer, or the network, was gone: a reset, a broken pipe, a time-out of TCP.
    LOST = "lost"
    #: The handler raised.
    FAILED = "handler failed"
    #: The server drained, and the connection was quiet.
    DRAINED = "drained"
    #: Nothing had moved for as long as the option `idle_timeout` says.
    IDLE = "idle for too long"
    #: The peer took nothing of what was sent to it for as long as `write_timeout` says.
    WRITE_TIMEOUT = "write timeout"
    #: It moved less than `min_rate`.
    TOO_SLOW = "too slow"
    #: It had lasted as long as `max_lifetime` says.
    LIFETIME = "end of its lifetime"
    #: It had moved as much as `max_bytes` says.
    MAX_BYTES = "too many bytes"
    #: All connections together held more than `max_memory` says, and this one much for what it
    #: moved.
    MEMORY = "too much memory"
    #: There were as many connections as `max_connections` says, and `overflow` is ``close``.
    OVERFLOW = "too many connections"
    #: Its source had as many as `per_source` says.
    PER_SOURCE = "too many from its source"
    #: They came faster than `accept_rate` says, and `overflow` is ``close``.
    ACCEPT_RATE = "too many at once"
    #: Its network is denied, or not one of those allowed.
    DENIED = "denied"
    #: The handshake of TLS failed, or took too long.
    HANDSHAKE = "handshake failed"
    #: The header of the PROXY protocol was bad, missing or late, or its sender is no known proxy.
    PROXY_HEADER = "bad PROXY header"
    #: The server drained, and the connection took too long; or the handler aborted it.
    ABORTED = "aborted"


class Events:
    """The events of a server. These methods do nothing; override those that you need."""

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        """The server listens on `addresses`, each like ``tcp://127.0.0.1:8000``."""

    def address_left_out(self, address: str, reason: str) -> None:
        """A name, or no host, stands for `address` besides others that the server listens on; and
        this machine does not have it."""

    def connection_accepted(self, connection: Connection, at: float) -> None:
        """A peer was accepted `at` this time of `Engine.now`, or refused. Behind a proxy, who it is
        will only be known at `connection_opened`, which follows in any case."""

    def connection_opened(self, connection: Connection) -> None:
        """A peer was accepted; its handler is about to run.

        Behind a proxy, the proxy has told who it is, if it ever does; with `Connection.of_proxy`,
        it has not, or is there for itself, as in a health check.
        """

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        """The handler raised `error`, whatever that is. Only this connection is closed."""

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        """The connection is closed. `error` says more where `reason` is LOST."""

    def accept_error(self, error: Exception) -> None:
        """accept(2) failed, for whatever reason, or what the server does for a peer that was
        accepted. Each time, where `accept_failed` is the summary for a log."""

    def accept_failed(self, error: Exception, left_out: int) -> None:
        """accept(2) failed for want of descriptors or memory, and whoever knocked waits; or, with a
        `NotServed`, a peer was accepted and had to be reset; or what the server does for a peer
        that was accepted has raised something that is no OSError. Accepting goes on in a moment.

        Told at most once a second; `left_out` such failures were not told since the last.
        """

    def housekeeping_failed(self, name: str, error: Exception, left_out: int) -> None:
        """What the server does beside its connections, by name, has raised `error`; it goes on in a
        moment. Told at most once a second; `left_out` were not told since the last."""

    def most_connections(self, most: int, derived: bool) -> None:
        """There will be at most so many connections; `derived` from the limit of descriptors, and
        not told by the option `max_connections`."""

    def limit_met(self, limit: str, text: str) -> None:
        """A limit of the server as a whole makes clients wait: the option's name, and what it is.

        (A connection that a limit closes is told by `connection_closed`, with its reason.)
        """

    def client_waited(self, limit: str) -> None:
        """A client had to wait: the name of the option that made it. Each time, where `limit_met`
        is the summary for a log."""

    def datagram_received(self, size: int) -> None:
        """A datagram of `size` bytes has come. (This and the next two are called for each one: a
        listener that is slow makes the server slow.)"""

    def datagram_sent(self, size: int) -> None:
        """A datagram of `size` bytes was sent."""

    def datagram_refused(self, reason: str) -> None:
        """A datagram was not answered: a short name of the reason, such as ``source_rate``. Each
        time, where `datagrams_refused` is the summary for a log."""

    def datagrams_refused(self, reason: str, source: SockAddr, left_out: int) -> None:
        """A datagram from `source` was not answered. Told at most once a second for each reason;
        `left_out` like it were not told since the last."""

    def accepting_paused(self) -> None:
        """No connection is accepted until `accepting_resumed`; those that are open go on."""

    def accepting_resumed(self) -> None:
        """Connections are accepted again."""

    def reload_begun(self) -> None:
        """The server was told to read its certificates again; `reloaded` or `reload_failed` will
        tell what has come of it."""

    def reloaded(self) -> None:
        """The certificates were read again, and are good."""

    def reload_failed(self, error: Exception) -> None:
        """The certificates were read again, and are not good: the old ones stay."""

    def certificate_doubtful(self, text: str) -> None:
        """A certificate that was read, at the start or again, has expired or is not yet valid: the
        text says which, and when. It is used all the same."""

    def drain_delayed(self, seconds: float) -> None:
        """The server was told to end: it is no longer ready, and drains in `seconds`. Until then
        it accepts whoever a load balancer still sends."""

    def drain_left(self, connections: int, seconds: float) -> None:
        """While the server drains, once a second: so many are left, and so many seconds."""

    def drain_begun(self, connections: int, seconds: float) -> None:
        """The listening sockets are closed. `connections` have `seconds` left, all together."""

    def drained(self, aborted: int, seconds: float) -> None:
        """All connections are gone after `seconds`, `aborted` of them by force."""


def check_events(events: object) -> None:
    """Raises `WrongType` if `events` is no object of `Events`, or would not be called: what is
    ``async`` nobody would await."""
    if events is None:
        return
    if not isinstance(events, Events):
        raise WrongType(f"events= takes an object of a class made from Events, not {events!r}")
    for name in vars(Events):
        if not name.startswith("_") and inspect.iscoroutinefunction(getattr(events, name)):
            raise WrongType(
                f"{type(events).__name__}.{name} is async, and would never run: events are told "
                "with an ordinary call"
            )


class EventGroup(Events):
    """Tells each of several listeners of each event, in their order. One that raises is reported,
    with its traceback, and harms neither the others nor who tells of the event.

    >>> class Bell(Events):
    ...     def drained(self, aborted, seconds):
    ...         print("ding")
    >>> EventGroup(Bell(), Bell()).drained(0, 0.1)
    ding
    ding
    """

    def __init__(self, *listeners: Events) -> None:
        for name, does_nothing in vars(Events).items():
            if name.startswith("_"):
                continue
            # Most listeners want to know little; one that does not override the event is not
            # called, and a group where nobody does keeps the method that does nothing.
            methods = [
                method
                for each in listeners
                if getattr(method := getattr(each, name), "__func__", None) is not does_nothing
            ]
            if methods:
                setattr(self, name, _to_each(methods))


def _to_each(methods: Sequence[Any]) -> Any:
    def tell(*event: Any) -> None:
        for method in methods:
            try:
                method(*event)
            except Exception:  # noqa: BLE001
                _log.exception("a listener to events failed: %r", method)

    return tell


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
        self._told_received = 0
        self._told_sent = 0

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

    def oldest(self, most: int) -> list[tuple[Connection, float]]:
        """The connections that have been open for longest, `most` of them, each with the time at
        which it was accepted. May be called from any thread."""
        with self._lock:
            return list(itertools.islice(self.open.items(), most))

    def figures(self) -> dict[str, Any]:
        """All of it, as it was at one moment; the bytes with those of open connections.

        May be called from any thread, and holds nobody up: while it counts the bytes of 10,000
        open connections, others come and go.
        """
        with self._lock:
            still_open = list(self.open)
            found: dict[str, Any] = {
                "connections": len(still_open),
                "accepted": self.accepted,
                "closed": {reason.name.lower(): self.closed[reason] for reason in CloseReason},
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
        # Whoever ends meanwhile is counted here for the last time, and next time there: no byte is
        # missed or counted twice.
        received += sum(connection.bytes_received for connection in still_open)
        sent += sum(connection.bytes_sent for connection in still_open)
        with self._lock:
            # The header of a proxy and the handshake of TLS are counted until they are known to be
            # no part of the conversation. But a counter that goes back means a restart to whoever
            # reads it, who would then count all of it again.
            found["bytes_received"] = self._told_received = max(received, self._told_received)
            found["bytes_sent"] = self._told_sent = max(sent, self._told_sent)
        return found
