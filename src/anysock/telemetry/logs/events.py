"""What the log says of each event."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from anysock.errors import NotServed
from anysock.net.printable import printable
from anysock.options.units import format_duration
from anysock.telemetry.events import CloseReason, Events
from anysock.telemetry.logs.limits import left_out_note

if TYPE_CHECKING:
    from anysock.engines.base import SockAddr
    from anysock.options.serve import ServeOptions
    from anysock.streams.connection import Connection

_log = logging.getLogger("anysock")
_access_log = logging.getLogger("anysock.access")
# Programs that start the server wait for these lines, whatever the level of the rest.
_ready_log = logging.getLogger("anysock.ready")


# With these reasons a connection is closed before its handler runs.
_BEFORE_HANDLER = frozenset(
    {
        CloseReason.OVERFLOW,
        CloseReason.PER_SOURCE,
        CloseReason.ACCEPT_RATE,
        CloseReason.DENIED,
        CloseReason.HANDSHAKE,
        CloseReason.PROXY_HEADER,
    }
)

# Reasons that an operator may have to act on: a limit of the server, or a peer that misbehaves.
_REFUSED = _BEFORE_HANDLER | {
    CloseReason.WRITE_TIMEOUT,
    CloseReason.TOO_SLOW,
    CloseReason.LIFETIME,
    CloseReason.MAX_BYTES,
    CloseReason.MEMORY,
    CloseReason.OUTBOX_FULL,
}


class LogEvents(Events):
    """Writes what happens to the logger ``anysock``.

    With `access`, each connection whose handler has run gets a line on ``anysock.access`` at its
    end. With `announce`, each connection gets a line when it is opened.
    """

    def __init__(self, *, access: bool = True, announce: bool = True) -> None:
        self._access = access
        self._announce = announce

    @classmethod
    def of(cls, options: ServeOptions) -> Self:
        """As the `options` say."""
        return cls(access=options.access_log, announce=not options.production)

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        for address in addresses:
            _ready_log.info("listening on %s (%s)", address, engine)

    def connection_opened(self, connection: Connection) -> None:
        # A proxy's health check comes once a second, for ever: that is no news.
        level = logging.DEBUG if connection.of_proxy else logging.INFO
        if self._announce and _log.isEnabledFor(level):
            _log.log(
                level, "I got a connection from %s", _who(connection.peer), extra=_of(connection)
            )

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        alone = isinstance(error, (SystemExit, KeyboardInterrupt))
        _log.error(
            "the handler failed for %s%s",
            _who(connection.peer),
            f": {type(error).__name__} ends its connection, not the server" if alone else "",
            exc_info=error,
            extra=_of(connection),
        )

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        if reason is CloseReason.ABORTED:
            _log.warning(
                "aborted the connection from %s", _who(connection.peer), extra=_of(connection)
            )
        elif reason in _REFUSED:
            _log.warning(
                "closed the connection from %s: %s%s",
                _who(connection.peer),
                reason.value,
                _because(error),
                extra=_of(connection),
            )
        elif _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "the connection from %s has ended: %s%s",
                _who(connection.peer),
                reason.value,
                _because(error),
                extra=_of(connection),
            )
        if self._access and reason not in _BEFORE_HANDLER:
            _log_access(connection, reason, error)

    def accept_failed(self, error: Exception, left_out: int) -> None:
        if isinstance(error, OSError):
            _log.error("%s%s", why_not_accepted(error), left_out_note(left_out))
        else:
            _log.error(
                "could not serve a connection that was accepted; accepting goes on%s",
                left_out_note(left_out),
                exc_info=error,
            )

    def housekeeping_failed(self, name: str, error: Exception, left_out: int) -> None:
        _log.error("%s failed, and goes on%s", name, left_out_note(left_out), exc_info=error)

    def address_left_out(self, address: str, reason: str) -> None:
        _log.info("not listening on %s: %s", address, reason)

    def most_connections(self, most: int, derived: bool) -> None:
        why = "as many as there are descriptors for, ulimit -n" if derived else "--max-connections"
        _log.info("at most %d connections (%s)", most, why)

    def limit_met(self, limit: str, text: str) -> None:
        _log.warning("%s: further clients wait (%s)", text, "--" + limit.replace("_", "-"))

    def datagrams_refused(self, reason: str, source: SockAddr, left_out: int) -> None:
        _log.warning(
            "did not answer a datagram from %s: %s%s",
            _who(source),
            reason,
            left_out_note(left_out),
        )

    def lifespan_failed(self, at: str, error: BaseException) -> None:
        # For the traceback. The line that everybody sees is that of the exception.
        _log.debug("the lifespan failed (%s)", at, exc_info=error)

    def accepting_paused(self) -> None:
        _log.info("accepting is paused")

    def accepting_resumed(self) -> None:
        _log.info("accepting is resumed")

    def reloaded(self) -> None:
        _log.info("reloaded")

    def reload_failed(self, error: Exception) -> None:
        _log.error("not reloaded, and nothing has changed: %s", error)

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

    def workers_started(self, pids: Sequence[int], max_connections: int) -> None:
        _log.info("%d workers: %s", len(pids), ", ".join(map(str, pids)))
        _log.info("at most %d connections, all workers together", max_connections)

    def worker_not_started(self, cause: str) -> None:
        _log.error("can't start a worker: %s; tried again until it works", cause)

    def worker_started(self, pid: int, failed: int) -> None:
        if failed:
            _log.info("worker %d is started, after %d tries that failed", pid, failed)

    def worker_replaced(self, pid: int, successor: int) -> None:
        _log.info("worker %d takes the place of %d", successor, pid)

    def worker_died(self, pid: int, how: str, why: str, restart_in: float | None) -> None:
        _log.error("worker %d %s: %s", pid, how, why)
        if restart_in is not None:
            _log.info("another is started in %s", format_duration(round(restart_in, 1)))

    def worker_killed(self, pid: int) -> None:
        _log.error("worker %d does not end: it is killed", pid)

    def workers_wanted(self, number: int, before: int) -> None:
        _log.info("one worker %s: %d", "more" if number > before else "less", number)

    def workers_reloading(self, number: int) -> None:
        _log.info("replacing %d workers, one by one", number)


def _who(peer: SockAddr) -> str:
    """A peer in the form that all lines share, so that one search finds one client: a tuple as
    Python shows it, ``('127.0.0.1', 61137)``; the name of a Unix socket."""
    return printable(str(peer))


def _because(error: BaseException | None) -> str:
    return f" ({printable(str(error))})" if error else ""


# What is missing when accept(2) fails, and how there can be more of it.
_MISSING = {
    errno.EMFILE: "descriptors of this process: raise the limit (ulimit -n)",
    errno.ENFILE: "descriptors of the whole machine (sysctl fs.file-max)",
    errno.ENOBUFS: "memory for sockets, of the machine or its cgroup",
    errno.ENOMEM: "memory, of the machine or its cgroup",
}


def why_not_accepted(error: OSError) -> str:
    """What has become of the peer, what is missing, and how there can be more of it."""
    if isinstance(error, NotServed):
        return (
            f"can't serve a connection: {error.strerror}; it was reset. What is missing are "
            "threads or memory: raise the limit (ulimit -u; pids.max and memory.max of the "
            "cgroup), serve fewer clients (--max-connections), or take an engine without threads"
        )
    missing = _MISSING.get(error.errno or 0)
    what = f"What is missing are {missing}, or serve fewer clients" if missing else "It goes on"
    return (
        f"can't accept a connection: {error.strerror}; it waits, and is tried again in a moment. "
        f"{what}"
    )


def _of(connection: Connection) -> dict[str, object]:
    return {"peer": connection.peer, "connection": connection.id}


def _log_access(connection: Connection, reason: CloseReason, error: BaseException | None) -> None:
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
        _who(connection.peer),
        f" via {_who(via)}" if via else "",
        reason.value,
        seconds,
        received,
        sent,
        _because(error),
        extra={
            **_of(connection),
            "fields": {
                "via": via,
                "reason": reason.name.lower(),
                "seconds": round(seconds, 6),
                "bytes_in": received,
                "bytes_out": sent,
            },
        },
    )
