"""The few places of the admin endpoint, and which client has to leave one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from anysock.streams.connection import Connection

# Clients that are answered at the same time; and those besides that have a feed.
MAX_CLIENTS = 8
MAX_SEATS = 4


class Places:
    """At most `MAX_CLIENTS` clients at once, and `MAX_SEATS` that look on.

    A new client has a place at once: a probe gives up after a second or so. When no place is free,
    the client that has been silent for longest is aborted; if all have sent their request, and have
    yet to read the answer or to leave, the oldest of them. Those that look on have seats of their
    own: no probe puts them out.
    """

    def __init__(self) -> None:
        # Both in order: of their arrival, or of their requests.
        self._silent: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}
        self._seated: set[Connection] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self, connection: Connection) -> Iterator[None]:
        """A place, as long as the block lasts, or until another needs it."""
        with self._lock:
            if len(self._silent) + len(self._answered) >= MAX_CLIENTS:
                kind = self._silent or self._answered
                leaves = next(iter(kind))
                del kind[leaves]
                leaves.abort()
            self._silent[connection] = None
        try:
            yield
        finally:
            with self._lock:
                self._silent.pop(connection, None)
                self._answered.pop(connection, None)
                self._seated.discard(connection)

    def has_asked(self, connection: Connection) -> None:
        """The client has sent its request."""
        with self._lock:
            if connection in self._silent:
                del self._silent[connection]
                self._answered[connection] = None

    def take_seat(self, connection: Connection) -> bool:
        """The client has asked for a feed: it leaves its place for a seat. False: none is free."""
        with self._lock:
            if len(self._seated) >= MAX_SEATS or connection not in self._silent:
                return False
            del self._silent[connection]
            self._seated.add(connection)
            return True
