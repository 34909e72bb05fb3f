"""Which connection the calling code serves: known by its context (`contextvars`)."""

from __future__ import annotations

import contextvars

from anysock.streams.connection import Connection

_current: contextvars.ContextVar[Connection | None] = contextvars.ContextVar(
    "anysock_connection", default=None
)


def current_connection() -> Connection | None:
    """The connection whose handler is running, or whose handler has spawned the task that is.

    None elsewhere: in tasks of the server (`Server.spawn`), and in programs that only connect. A
    filter of `logging`, or a processor of structlog, can so name the client of any log record,
    whichever library has made it:

    >>> import logging
    >>> class NamesClient(logging.Filter):
    ...     def filter(self, record):
    ...         connection = current_connection()
    ...         record.client = connection.id if connection else "-"
    ...         return True
    """
    return _current.get()


def serves(connection: Connection) -> None:
    """From now on, the calling task serves `connection`. For the server."""
    _current.set(connection)


class of_no_connection:  # noqa: N801
    """Within the block, no connection is served: what is spawned there belongs to the server."""

    def __enter__(self) -> None:
        self._token = _current.set(None)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def connection_of(context: contextvars.Context) -> Connection | None:
    """`current_connection` of a task that has this context."""
    return context.get(_current)
