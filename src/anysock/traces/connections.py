"""What a server tells a trace: its connections, and what else happens to it. Under all engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anysock.net.addresses import format_peer
from anysock.streams.connection import Connection
from anysock.telemetry.events import CloseReason, Events
from anysock.traces.writer import TraceWriter

# How much of a text is told.
_MOST = 300


class ConnectionRecorder(Events):
    """Writes what a server tells. `now` gives the time in the trace."""

    def __init__(self, writer: TraceWriter, now: Callable[[], int]) -> None:
        self._writer = writer
        self._now = now

    def connection_accepted(self, connection: Connection, at: float) -> None:
        self._tell("accept", conn=connection.id, peer=format_peer(connection.stream.peer))

    def connection_opened(self, connection: Connection) -> None:
        self._tell(
            "open",
            conn=connection.id,
            peer=format_peer(connection.peer),
            via=format_peer(connection.via) if connection.via else None,
        )

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        self._tell("failed", conn=connection.id, error=_text(error))

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        self._tell(
            "close",
            conn=connection.id,
            reason=reason.value,
            error=None if error is None else _text(error),
            got=connection.bytes_received,
            sent=connection.bytes_sent,
            tls=None if connection.tls is None else connection.tls.version,
        )

    def _tell(self, kind: str, **fields: Any) -> None:
        self._writer.event(self._now(), kind, **fields)


def _text(value: object) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def _mark(name: str) -> Any:
    """A method that tells of the event `name` as a mark."""

    code = getattr(Events, name).__code__
    parameters = code.co_varnames[1 : code.co_argcount]

    def tell(self: ConnectionRecorder, *about: Any) -> None:
        named = zip(parameters, about, strict=True)
        text = ", ".join(f"{parameter}={_text(value)}" for parameter, value in named)
        self._tell("mark", what=name, text=text or None)

    tell.__name__ = tell.__qualname__ = name
    return tell


for _name in vars(Events):
    if not _name.startswith("_") and _name not in vars(ConnectionRecorder):
        setattr(ConnectionRecorder, _name, _mark(_name))
