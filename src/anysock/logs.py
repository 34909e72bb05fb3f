"""The log: a listener to the server's events, and how its lines are written."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anysock.events import CloseReason, Events

if TYPE_CHECKING:
    from anysock.connection import Connection

_log = logging.getLogger("anysock")
# Whoever starts the server waits for these lines, whatever the level of the rest.
_ready_log = logging.getLogger("anysock.ready")


# Ends that somebody may have to do something about: a limit of ours, or a peer that does wrong.
_REFUSED = frozenset(CloseReason) - {
    CloseReason.DONE,
    CloseReason.NO_DATA,
    CloseReason.LOST,
    CloseReason.FAILED,
    CloseReason.DRAINED,
    CloseReason.IDLE,
    CloseReason.ABORTED,
}


class LogEvents(Events):
    """Writes what happens to the logger ``anysock``."""

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        for address in addresses:
            _ready_log.info("listening on %s (%s)", address, engine)

    def connection_opened(self, connection: Connection) -> None:
        if _log.isEnabledFor(logging.INFO):
            _log.info("I got a connection from %s", connection.peer, extra=_of(connection))

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

    def accepting_paused(self) -> None:
        _log.info("accepting is paused")

    def accepting_resumed(self) -> None:
        _log.info("accepting is resumed")

    def reloaded(self) -> None:
        _log.info("the certificates are reloaded")

    def reload_failed(self, error: Exception) -> None:
        _log.error("the certificates stay as they were: %s", error)

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


class TextFormatter(logging.Formatter):
    """The message, with the level before it where something needs attention.

    No time: the service manager, or the terminal, knows when.
    """

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno > logging.INFO else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message; peer and error where known."""

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
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def has_handlers() -> bool:
    """Whether the program has said where Anysock's log goes."""
    return _log.hasHandlers()


def configure_logging(level: str, format: str) -> None:
    """Write the log of Anysock to standard error, from `level` on, as ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    _log.addHandler(handler)
    _log.setLevel(level.upper())
    _log.propagate = False
    _ready_log.setLevel(logging.INFO)
