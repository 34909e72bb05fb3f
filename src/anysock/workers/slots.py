"""One number of connections for all workers, exact, and right again after one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator

#: The most workers at once, with those that are being replaced.
MOST_WORKERS = 1024

_BYTES = 4 * MOST_WORKERS


class SlotTable:
    """A table in memory that all workers share: how many connections each of them has.

    Each writes its own line only. The supervisor clears the line of one that has died; so nothing
    is lost with it, as it would be from a count that all share.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            with tempfile.TemporaryFile(buffering=0) as file:
                os.ftruncate(file.fileno(), _BYTES)
                fd = os.dup(file.fileno())
        #: To be inherited by the workers.
        self.fd = fd
        self._memory = mmap.mmap(fd, _BYTES)
        self._counts = memoryview(self._memory).cast("I")
        # A lock on a file is between processes, and the kernel takes it from one that dies; between
        # the threads of one it is no lock at all (fcntl_locking(2)).
        self._between_threads = threading.Lock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[memoryview]:
        """The counts, a line a worker, while nobody else changes them."""
        with self._between_threads:
            fcntl.lockf(self.fd, fcntl.LOCK_EX)
            try:
                yield self._counts
            finally:
                fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def total(self) -> int:
        """How many connections all workers have."""
        return sum(self._counts)

    def of(self, line: int) -> int:
        return self._counts[line]

    def clear(self, line: int) -> None:
        """A worker is gone, and its connections with it."""
        with self.locked() as counts:
            counts[line] = 0

    def close(self) -> None:
        self._counts.release()
        self._memory.close()
        os.close(self.fd)


class SharedSlots:
    """The slots of one worker: `most` for all of them, and `own` for itself, which has no more
    descriptors. `freed` is called when one was given back while there was none left."""

    def __init__(
        self, table: SlotTable, line: int, most: int, own: int, freed: Callable[[], None]
    ) -> None:
        self.most = most
        self._table = table
        self._line = line
        self._own = own
        self._freed = freed

    def take(self) -> bool:
        with self._table.locked() as counts:
            if sum(counts) >= self.most or counts[self._line] >= self._own:
                return False
            counts[self._line] += 1
            return True

    def give_back(self) -> None:
        with self._table.locked() as counts:
            was_full = sum(counts) >= self.most
            counts[self._line] -= 1
        if was_full:
            self._freed()

    @property
    def full(self) -> bool:
        table = self._table
        return table.total() >= self.most or table.of(self._line) >= self._own
