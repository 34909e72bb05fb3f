"""The few places of the admin endpoint, and who has to leave one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from anysock.streams.connection import Connection


class Places:
    """At most `most` clients at once.

    Whoever comes has a place at once: a probe gives up after a second or so. When there is none,
    the one that has been silent for longest is aborted; if all have asked already, and have yet to
    read what they are told, or to leave, the oldest of these.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Both in the order in which they came, or had asked.
        self._silent: dict[Connection, None] = {}
        self._told: dict[Connection, None] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self, connection: Connection) -> Iterator[None]:
        """A place, as long as the block lasts, or until another needs it."""
        with self._lock:
            if len(self._silent) + len(self._told) >= self._most:
                kind = self._silent or self._told
                leaves = next(iter(kind))
                del kind[leaves]
                leaves.abort()
            self._silent[connection] = None
        try:
            yield
        finally:
            with self._lock:
                self._silent.pop(connection, None)
                self._told.pop(connection, None)

    def has_asked(self, connection: Connection) -> None:
        """Who has this connection is silent no more."""
        with self._lock:
            if connection in self._silent:
                del self._silent[connection]
                self._told[connection] = None
