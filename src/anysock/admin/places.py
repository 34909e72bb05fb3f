"""The few places of the admin endpoint, and which client has to leave one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from anysock.streams.connection import Connection


class Places:
    """At most `most` clients at once.

    A new client has a place at once: a probe gives up after a second or so. When no place is free,
    the client that has been silent for longest is aborted; if all have sent their request, and have
    yet to read the answer or to leave, the oldest of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Both in order: of their arrival, or of their requests.
        self._silent: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self, connection: Connection) -> Iterator[None]:
        """A place, as long as the block lasts, or until another needs it."""
        with self._lock:
            if len(self._silent) + len(self._answered) >= self._most:
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

    def has_asked(self, connection: Connection) -> None:
        """The client has sent its request."""
        with self._lock:
            if connection in self._silent:
                del self._silent[connection]
                self._answered[connection] = None
