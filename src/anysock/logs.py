"""The log: a listener to the server's events, and how its lines are written.

Loggers: ``anysock``, and below it ``anysock.access``, which has a line for each connection that was
served, at its end; a service that wants these elsewhere gives that logger a handler of its own.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from anysock.events import CloseReason, Events
from anysock.net.addresses import format_peer

if TYPE_CHECKING:
    from anysock.connection import Connection
    from anysock.engines.base import SockAddr
    from anysock.options import ServeOptions

#: How many log records of one kind pass in a second. Enough to see what it is, and that it goes
#: on; more tracebacks nobody reads, and a full disk ends more than the log.
MOST_A_SECOND = 10

_log = logging.getLogger("anysock")
_access_log = logging.getLogger("anysock.access")
# Whoever starts the server waits for these lines, whatever the level of the rest.
_ready_log = logging.getLogger("anysock.ready")


# Who ends so never came as far as a handler.
_AT_THE_DOOR = frozenset(
    {
        CloseReason.OVERFLOW,
        CloseReason.PER_SOURCE,
        CloseReason.ACCEPT_RATE,
        CloseReason.DENIED,
        CloseReason.HANDSHAKE,
        CloseReason.PROXY_HEADER,
    }
)

# Ends that somebody may have to do something about: a limit of ours, or a peer that does wrong.
_REFUSED = _AT_THE_DOOR | {
    CloseReason.WRITE_TIMEOUT,
    CloseReason.TOO_SLOW,
    CloseReason.LIFETIME,
    CloseReason.MAX_BYTES,
}


class LogEvents(Events):
    """Writes what happens to the logger ``anysock``.

    With `access`, each connection that comes as far as a handler gets a line on ``anysock.access``
    at its end. With `announce`, each is announced when it comes.
    """

    def __init__(self, *, access: bool = True, announce: bool = True) -> None:
        self._access = access
        self._announce = announce

    @classmethod
    def of(cls, options: ServeOptions) -> Self:
        """As `options` want it."""
        return cls(access=options.access_log, announce=not options.production)

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        for address in addresses:
            _ready_log.info("listening on %s (%s)", address, engine)

    def connection_opened(self, connection: Connection) -> None:
        # A proxy's health check, once a second and for ever, is no news.
        level = logging.DEBUG if connection.of_proxy else logging.INFO
        if self._announce and _log.isEnabledFor(level):
            _log.log(level, "I got a connection from %s", connection.peer, extra=_of(connection))

    def handler_failed(self, connection: Connection, error: Exception) -> None:
        _log.error(
            "the handler failed for %s", connection.peer, exc_info=error, extra=_of(connection)
        )

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        if reason is CloseReason.ABORTED:
            _log.warning("aborted the connection from %s", connection.peer, extra=_of(connection))
        elif reason in _REFUSED:
            _log.warning(
                "closed the connection from %s: %s%s",
                connection.peer,
                reason.value,
                f" ({error})" if error else "",
                extra=_of(connection),
            )
        elif _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "the connection from %s has ended: %s%s",
                connection.peer,
                reason.value,
                f" ({error})" if error else "",
                extra=_of(connection),
            )
        if self._access and reason not in _AT_THE_DOOR:
            _tell_access(connection, reason, error)

    def accept_failed(self, error: OSError, left_out: int) -> None:
        _log.error(
            "can't accept a connection: %s; it waits, and is tried again in a moment. "
            "Raise the limit (ulimit -n) or serve fewer clients%s",
            error.strerror,
            f" ({left_out} like this were not told)" if left_out else "",
        )

    def most_connections(self, most: int, derived: bool) -> None:
        why = "as many as there are descriptors for, ulimit -n" if derived else "--max-connections"
        _log.info("at most %d connections (%s)", most, why)

    def limit_met(self, limit: str, text: str) -> None:
        _log.warning("%s: further clients wait (%s)", text, "--" + limit.replace("_", "-"))

    def datagrams_refused(self, reason: str, source: SockAddr, left_out: int) -> None:
        _log.warning(
            "did not answer a datagram from %s: %s%s",
            source,
            reason,
            f" ({left_out} like this were not told)" if left_out else "",
        )

    def accepting_paused(self) -> None:
        _log.info("accepting is paused")

    def accepting_resumed(self) -> None:
        _log.info("accepting is resumed")

    def reloaded(self) -> None:
        _log.info("reloaded")

    def reload_failed(self, error: Exception) -> None:
        _log.error("the certificates stay as they were: %s", error)

    def certificate_doubtful(self, text: str) -> None:
        _log.warning("%s: clients will refuse it", text)

    def drain_delayed(self, seconds: float) -> None:
        _log.info("not ready any more: draining begins in %g s", seconds)

    def drain_left(self, connections: int, seconds: float) -> None:
        _log.info("draining: %d connections left, %.0f s left", connections, seconds)

    def drain_begun(self, connections: int, seconds: float) -> None:
        for_at_most = round(seconds, 2)
        _log.info("draining: %d connections left, for at most %g s", connections, for_at_most)

    def drained(self, aborted: int, seconds: float) -> None:
        if aborted:
            _log.warning("drained in %.2f s: %d connections were aborted", seconds, aborted)
        else:
            _log.info("drained in %.2f s", seconds)


def _of(connection: Connection) -> dict[str, object]:
    return {"peer": connection.peer}


def _tell_access(connection: Connection, reason: CloseReason, error: BaseException | None) -> None:
    """The line of a connection that was served."""
    # A connection without a byte is a load balancer's health check, once a second and for ever.
    level = logging.DEBUG if reason is CloseReason.NO_DATA else logging.INFO
    if not _access_log.isEnabledFor(level):
        return
    seconds = connection.lasted or 0.0
    received, sent, via = connection.bytes_received, connection.bytes_sent, connection.via
    _access_log.log(
        level,
        "%s%s: %s after %.3f s, %d bytes in, %d bytes out%s",
        format_peer(connection.peer),
        f" via {format_peer(via)}" if via else "",
        reason.value,
        seconds,
        received,
        sent,
        f" ({error})" if error else "",
        extra={
            "peer": connection.peer,
            "fields": {
                "via": via,
                "reason": reason.name.lower(),
                "seconds": round(seconds, 6),
                "bytes_in": received,
                "bytes_out": sent,
            },
        },
    )


@dataclass
class _Second:
    """What has come of one kind of record within a second."""

    # Not the record: its traceback holds frames, and these their sockets.
    logger: str
    level: int
    text: str
    began: float
    passed: int = 1
    left_out: int = 0


class FloodLimit(logging.Filter):
    """Lets `most` log records of one kind pass in a second.

    Of one kind are those with the same message, before its arguments are put in, and the same kind
    of exception. The next that passes has the number of those left out (`record.left_out`);
    `owing` makes records of the numbers that none has told.

    Not limited are the lines of the access log: there is one a connection that was served, so
    ``--max-connections`` and ``--accept-rate`` bound them, and with gaps they could not be counted
    on; who does not want them turns them off. Nor what is below INFO, which only comes when
    somebody has asked to see everything.
    """

    def __init__(self, most: int = MOST_A_SECOND) -> None:
        super().__init__()
        self._most = most
        self._seconds: dict[tuple[object, ...], _Second] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO or record.name == _access_log.name:
            return True
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.levelno, str(record.msg), error)
        with self._lock:
            second = self._seconds.get(kind)
            # A wall clock that was set back begins a new second.
            if second is None or not 0 <= record.created - second.began < 1:
                self._seconds[kind] = _Second(
                    record.name, record.levelno, record.getMessage(), record.created
                )
                record.__dict__["left_out"] = 0 if second is None else second.left_out
                return True
            second.passed += 1
            if second.passed <= self._most:
                return True
            second.left_out += 1
            return False

    def owing(self, now: float = math.inf) -> list[logging.LogRecord]:
        """Records that tell how many were left out, of the kinds whose second is over by `now`
        (seconds since 1970) without a word of them."""
        with self._lock:
            over = [kind for kind, second in self._seconds.items() if now - second.began >= 1]
            past = [self._seconds.pop(kind) for kind in over]
        return [_left_out(second) for second in past if second.left_out]


def _left_out(second: _Second) -> logging.LogRecord:
    told = "%d like this were not told: %s"
    return logging.LogRecord(
        second.logger, second.level, "", 0, told, (second.left_out, second.text), None
    )


class LimitedHandler(logging.StreamHandler[Any]):
    """Writes to standard error, within the bounds of a `FloodLimit`."""

    def __init__(self, limit: FloodLimit) -> None:
        super().__init__()
        self._limit = limit
        self.addFilter(limit)

    def emit(self, record: logging.LogRecord) -> None:
        for late in self._limit.owing(record.created):
            super().emit(late)
        super().emit(record)

    def close(self) -> None:
        # logging.shutdown() comes here when the process ends.
        for late in self._limit.owing():
            super().emit(late)
        super().close()


class TextFormatter(logging.Formatter):
    """The message, with the level before it where something needs attention.

    No time: the service manager, or the terminal, knows when.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        left_out = getattr(record, "left_out", 0)
        told = f" ({left_out} like this were not told)" if left_out else ""
        return super().formatMessage(record) + told

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno > logging.INFO else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message; peer and error where known.

    An access line has ``via``, ``reason``, ``seconds``, ``bytes_in`` and ``bytes_out`` besides; a
    record after others that a `FloodLimit` left out, their number, ``left_out``.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        peer = getattr(record, "peer", None)
        if peer is not None:
            entry["peer"] = peer if isinstance(peer, str) else list(peer)
        entry |= getattr(record, "fields", {})
        if left_out := getattr(record, "left_out", 0):
            entry["left_out"] = left_out
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def has_handlers() -> bool:
    """Whether the program has said where Anysock's log goes."""
    return _log.hasHandlers()


def configure_logging(level: str, format: str) -> None:
    """Write the log of Anysock to standard error, from `level` on, as ``text`` or ``json``.

    Floods of one message are limited (`FloodLimit`), unless `level` is ``debug``: who asks for
    that wants to see everything.
    """
    handler = logging.StreamHandler() if level == "debug" else LimitedHandler(FloodLimit())
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    _log.addHandler(handler)
    _log.setLevel(level.upper())
    _log.propagate = False
    _ready_log.setLevel(logging.INFO)
