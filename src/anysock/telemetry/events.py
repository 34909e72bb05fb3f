"""The events of a server: what it reports of itself.

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

import contextlib
import enum
import functools
import inspect
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anysock.errors import WrongType

if TYPE_CHECKING:
    from anysock.engines.base import Engine, SockAddr
    from anysock.streams.connection import Connection

_log = logging.getLogger("anysock.events")


class CloseReason(enum.Enum):
    """Why a connection has ended."""

    #: The peer ended the stream, or the handler returned.
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
    #: No byte was moved for the time of the option `idle_timeout`.
    IDLE = "idle for too long"
    #: The peer took none of the bytes sent to it for the time of `write_timeout`.
    WRITE_TIMEOUT = "write timeout"
    #: The connection moved less than `min_rate`.
    TOO_SLOW = "too slow"
    #: The connection had lasted for `max_lifetime`.
    LIFETIME = "end of its lifetime"
    #: The connection had moved `max_bytes`.
    MAX_BYTES = "too many bytes"
    #: All connections together held more than `max_memory`, and this one held much compared with
    #: what it moved.
    MEMORY = "too much memory"
    #: Its `Outbox` was full, and `when_full` is ``disconnect``: the peer did not read fast enough.
    OUTBOX_FULL = "outbox full"
    #: `max_connections` were open, and `overflow` is ``close``.
    OVERFLOW = "too many connections"
    #: The source of the connection had `per_source` open.
    PER_SOURCE = "too many from its source"
    #: Connections came faster than `accept_rate`, and `overflow` is ``close``.
    ACCEPT_RATE = "too many at once"
    #: The network of the peer is denied, or not one of those allowed.
    DENIED = "denied"
    #: The TLS handshake failed, or took too long.
    HANDSHAKE = "handshake failed"
    #: The header of the PROXY protocol was bad, missing or late, or its sender is no known proxy.
    PROXY_HEADER = "bad PROXY header"
    #: The server drained, and the connection took too long; or the handler aborted it.
    ABORTED = "aborted"

    # Of each there is one: its identity will do. Enum's own is a function in Python, and each
    # connection is counted by its reason.
    __hash__ = object.__hash__


class Events:
    """The events of a server. These methods do nothing; override those that you need."""

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        """The server listens on `addresses`, each like ``tcp://127.0.0.1:8000``."""

    def address_left_out(self, address: str, reason: str) -> None:
        """The server does not listen on `address`, one of several that a name or an empty host
        stands for, since this machine does not have it."""

    def connection_accepted(self, connection: Connection, at: float) -> None:
        """A peer was accepted, or refused, `at` this time of `Engine.now`. Behind a proxy, the
        address of the client is not known before `connection_opened`, which follows in any
        case."""

    def connection_opened(self, connection: Connection) -> None:
        """A peer was accepted; its handler is about to run.

        Behind a proxy, the address of the client is known now. With `Connection.of_proxy`, the
        proxy has sent none: the connection is its own, such as a health check.
        """

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        """The handler raised `error`, of any class. Only this connection is closed."""

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        """The connection is closed. `error` says more where `reason` is LOST."""

    def accept_error(self, error: Exception) -> None:
        """accept(2) failed, for any reason, or what the server does for an accepted peer failed.
        Emitted each time; `accept_failed` is the summary for a log."""

    def accept_failed(self, error: Exception, left_out: int) -> None:
        """accept(2) failed for want of descriptors or memory, and the peer waits; or, with a
        `NotServed`, a peer was accepted and had to be reset; or what the server does for an
        accepted peer has raised something that is no OSError. Accepting goes on in a moment.

        Emitted at most once a second; `left_out` such failures were left out since the last.
        """

    def housekeeping_failed(self, name: str, error: Exception, left_out: int) -> None:
        """A task of the server other than its connections has raised `error`: `name` says which. It
        goes on in a moment. Emitted at most once a second; `left_out` such failures were left out
        since the last."""

    def most_connections(self, most: int, derived: bool) -> None:
        """At most `most` connections will be open at once: the option `max_connections`, or a
        number `derived` from the limit of descriptors."""

    def limit_met(self, limit: str, text: str) -> None:
        """A limit of the server as a whole makes clients wait: `limit` is the option's name, `text`
        says what was reached.

        (A connection that a limit closes is reported by `connection_closed`, with its reason.)
        """

    def client_waited(self, limit: str) -> None:
        """A client had to wait; `limit` is the name of the option that made it. Emitted each time;
        `limit_met` is the summary for a log."""

    def datagram_received(self, size: int) -> None:
        """A datagram of `size` bytes was received. (This event and the next two are emitted for
        each datagram: a slow listener makes the server slow.)"""

    def datagram_sent(self, size: int) -> None:
        """A datagram of `size` bytes was sent."""

    def datagram_refused(self, reason: str) -> None:
        """A datagram was not answered; `reason` is a short name, such as ``source_rate``. Emitted
        each time; `datagrams_refused` is the summary for a log."""

    def datagrams_refused(self, reason: str, source: SockAddr, left_out: int) -> None:
        """A datagram from `source` was not answered. Emitted at most once a second for each reason;
        `left_out` like it were left out since the last."""

    def lifespan_failed(self, at: str, error: BaseException) -> None:
        """The lifespan raised `error`: `at` is ``start``, or ``end`` for what comes after. The
        server does not start, or has ended, with an exception that says so."""

    def accepting_paused(self) -> None:
        """No connection is accepted until `accepting_resumed`; open connections go on."""

    def accepting_resumed(self) -> None:
        """Connections are accepted again."""

    def reload_begun(self) -> None:
        """The server was told to read its certificates again, and a supervisor to replace its
        workers. `reloaded` or `reload_failed` follows."""

    def reloaded(self) -> None:
        """The certificates were read again, and are good; all workers were replaced."""

    def reload_failed(self, error: Exception) -> None:
        """The certificates are not good, or a new worker has died before it served: the old
        certificates stay, and the workers that are not replaced yet."""

    def certificate_doubtful(self, text: str) -> None:
        """A certificate that was read, at the start or again, has expired or is not yet valid;
        `text` says which, and when. It is used all the same."""

    def drain_delayed(self, seconds: float) -> None:
        """The server was told to end: it is no longer ready, and drains in `seconds`. Until then it
        accepts the clients that a load balancer still sends."""

    def drain_left(self, connections: int, seconds: float) -> None:
        """Once a second while the server drains: `connections` are left, and have `seconds`."""

    def drain_begun(self, connections: int, seconds: float) -> None:
        """The listening sockets are closed. `connections` have `seconds` left, all together."""

    def drained(self, aborted: int, seconds: float) -> None:
        """All connections are gone after `seconds`, `aborted` of them by force."""

    # Of a server with several workers: their supervisor emits these. It also emits the events in
    # `FOR_ALL_WORKERS`, once for all of them.

    def workers_started(self, pids: Sequence[int], max_connections: int) -> None:
        """All workers serve, for the first time: their process numbers, and the maximum of
        connections of all workers together."""

    def worker_not_started(self, cause: str) -> None:
        """A worker could not be started. That is tried again until it works. Emitted once for each
        `cause` in a row."""

    def worker_started(self, pid: int, failed: int) -> None:
        """A worker process was started, after `failed` attempts that did not work."""

    def worker_replaced(self, pid: int, successor: int) -> None:
        """The worker `successor` serves in the place of `pid`, which accepts no more connections
        and ends."""

    def worker_died(self, pid: int, how: str, why: str, restart_in: float | None) -> None:
        """A worker has ended unasked, or not as it should. `how` it ended, such as ``was killed by
        SIGKILL``; `why`, or what that has cost. Another one is started in `restart_in` seconds
        (None: no other one is wanted)."""

    def worker_killed(self, pid: int) -> None:
        """A worker did not end in time, and is killed."""

    def workers_wanted(self, number: int, before: int) -> None:
        """A signal has changed the number of workers."""

    def workers_reloading(self, number: int) -> None:
        """SIGHUP: `number` workers are being replaced, one by one. Comes after `reload_begun`."""

    def gave_up(self, error: Exception, seconds: float) -> None:
        """The workers can't begin, or die at once again and again. Those that are left end within
        `seconds`; then `serve` raises `error`."""


#: The events that the supervisor of several workers emits once for all of them.
FOR_ALL_WORKERS = frozenset(
    {
        "listening",
        "most_connections",
        "accepting_paused",
        "accepting_resumed",
        "drain_delayed",
        "drain_begun",
        "drain_left",
        "drained",
    }
)


# Who is told of all servers of an engine that are started from now on.
_of_engines: dict[Engine, list[Events]] = {}


@contextlib.contextmanager
def listening_to(engine: Engine, events: Events) -> Iterator[None]:
    """Within the block, `events` is told what happens in each server that starts under `engine`."""
    _of_engines.setdefault(engine, []).append(events)
    try:
        yield
    finally:
        _of_engines[engine].remove(events)
        if not _of_engines[engine]:
            del _of_engines[engine]


def with_listeners(engine: Engine, events: Events) -> Events:
    """`events`, and who else is told of a server that starts under `engine` now."""
    others = _of_engines.get(engine)
    return EventGroup(events, *others) if others else events


def check_events(events: object) -> None:
    """Raises `WrongType` if `events` is no object of `Events`, or would not be called: what is
    ``async`` nobody would await."""
    if events is None:
        return
    if not isinstance(events, Events):
        raise WrongType(f"events= takes an object of a class made from Events, not {events!r}")
    for name in () if isinstance(events, EventGroup) else _DO_NOTHING:
        if inspect.iscoroutinefunction(getattr(events, name)):
            raise WrongType(
                f"{type(events).__name__}.{name} is async, and would never run: events are told "
                "with an ordinary call"
            )


class EventGroup(Events):
    """Emits each event to several listeners, in their order, except those named in `without`. A
    listener that raises is reported, with its traceback, and harms neither the others nor the code
    that emits the event.

    >>> class Bell(Events):
    ...     def drained(self, aborted, seconds):
    ...         print("ding")
    >>> EventGroup(Bell(), Bell()).drained(0, 0.1)
    ding
    ding
    """

    def __init__(self, *listeners: Events, without: Collection[str] = ()) -> None:
        self._listeners = listeners
        self._without = without

    def _method(self, name: str) -> Any:
        """What emits the event `name`. It is made when it is first asked for: most never are."""
        # Most listeners want to know little; one that does not override the event is not called.
        nothing = _DO_NOTHING[name], _to_nobody
        methods = [
            method
            for each in (() if name in self._without else self._listeners)
            if getattr(method := getattr(each, name), "__func__", method) not in nothing
        ]
        return _to_each(methods) if methods else _to_nobody


_DO_NOTHING = {name: each for name, each in vars(Events).items() if not name.startswith("_")}

for _name, _nothing in _DO_NOTHING.items():
    _made = functools.cached_property(functools.partial(EventGroup._method, name=_name))
    _made.__set_name__(EventGroup, _name)
    _made.__doc__ = f"{_nothing.__doc__}\n\n:meta private:"  # `Events` explains it
    setattr(EventGroup, _name, _made)


def _to_nobody(*event: Any) -> None:
    pass


def _to_each(methods: Sequence[Any]) -> Any:
    def tell(*event: Any) -> None:
        for method in methods:
            try:
                method(*event)
            except Exception:  # noqa: BLE001
                _log.exception("a listener to events failed: %r", method)

    return tell
