"""`Ledger`: what a server tells of itself, written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from anysock.net.networks import source_of
from anysock.options.serve import ServeOptions
from anysock.server.server import Server
from anysock.sim.oracles.below import socket_below
from anysock.sim.oracles.records import Answers, Served, ServerRecord
from anysock.streams.connection import Connection
from anysock.telemetry.events import CloseReason, Events


class Ledger(Events):
    """Listens to a server's events: ``Server(…, events=Ledger(…))``. `now` is the clock of the
    network. `close` is to be called when the server has ended, and gives the record."""

    def __init__(
        self,
        host: str,
        options: ServeOptions,
        now: Callable[[], float],
        *,
        answers: Answers | None = None,
        answers_at_once: Answers | None = None,
    ) -> None:
        self.record = ServerRecord(host, options, answers, answers_at_once)
        self._now = now
        self._open: dict[Connection, Served] = {}
        self._sources: Counter[str] = Counter()

    def close(self, server: Server[Any]) -> ServerRecord:
        """What was told, and what `server` says at its end."""
        self.record.figures = server.counters.figures()
        self.record.aborted = server.aborted
        return self.record

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        # It may begin again, after a crash that has told nobody of an end.
        self._open.clear()
        self._sources.clear()

    def connection_accepted(self, connection: Connection, at: float) -> None:
        peer = connection.stream.peer
        source = source_of(peer)
        served = Served(
            peer,
            source,
            self._now(),
            open_before=len(self._open),
            of_source_before=self._sources[source],
        )
        self.record.connections.append(served)
        self._open[connection] = served
        self._sources[source] += 1

    def connection_opened(self, connection: Connection) -> None:
        served = self._open[connection]
        served.opened = self._now()
        served.told_opened += 1

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        # Its traceback would keep the frames of the handler.
        self._open[connection].failure = error.with_traceback(None)

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        served = self._open.pop(connection)
        self._sources[served.source] -= 1
        served.closed = self._now()
        served.told_closed += 1
        served.reason, served.error = reason, error
        served.received, served.sent = connection.bytes_received, connection.bytes_sent
        served.aborted = connection.aborted
        tls = connection.tls
        served.in_handshake = self.record.tls and not (tls is not None and tls.established)
        if (sock := socket_below(connection.stream)) is not None:
            served.taken_at, served.acknowledged_at = sock.taken_at, sock.acknowledged_at
            served.silence, served.put_at, served.ended_at = (
                sock.silence,
                sock.put_at,
                sock.ended_at,
            )
            served.lain = sock.lain
            served.let_go_at = min(
                (each for each in (sock.shut_at, sock.ended_at) if each is not None), default=None
            )
            served.untaken = sock.untaken

    def accept_error(self, error: Exception) -> None:
        self.record.accept_errors.append((self._now(), error.with_traceback(None)))

    def housekeeping_failed(self, name: str, error: Exception, left_out: int) -> None:
        self.record.housekeeping_errors.append(error.with_traceback(None))

    def drain_begun(self, connections: int, seconds: float) -> None:
        self.record.drain_began = self._now()
        self.record.drain_seconds = seconds

    def drained(self, aborted: int, seconds: float) -> None:
        self.record.drained = self._now()
        # It is told of its beginning a little late.
        self.record.drain_began = self.record.drained - seconds
        self.record.drain_aborted = aborted
