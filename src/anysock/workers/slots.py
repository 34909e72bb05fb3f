"""One number of connections for all workers, exact, and right again after one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from anysock.errors import StartError

#: Maximum of workers at once, including those that are being replaced.
MAX_WORKERS = 1024

_BYTES = 4 * MAX_WORKERS


# Seconds to wait for the lock. It is held for some microseconds; for longer only by a process that
# is stopped (SIGSTOP, a frozen container) or gets no processor.
LOCK_SECONDS = 0.005


class SlotTable:
    """A table in memory that all workers share: how many connections each of them has.

    Each worker writes its own entry only, and adds to it before it reads the sum; so there are
    never too many connections, with or without the lock. The lock keeps two workers that want the
    last slot at the same time from both seeing the other's claim, and both going without. No worker
    waits for it for long, since its holder may be stopped. The supervisor clears the entry of a
    worker that has died; a count that all share would keep its slots for ever.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = _file_of(_BYTES)
        #: To be inherited by the workers.
        self.fd = fd
        self._memory = mmap.mmap(fd, _BYTES)
        self._counts = memoryview(self._memory).cast("I")
        # A lock on a file is between processes, and the kernel takes it from one that dies; between
        # the threads of one it is no lock at all (fcntl_locking(2)).
        self._between_threads = threading.Lock()
        # Whether the last wait for the lock was in vain: then it is tried only once, until free.
        self._stuck = False

    @contextlib.contextmanager
    def locked(self) -> Iterator[tuple[memoryview, bool]]:
        """The counts, one for each worker, and whether no other process changes them meanwhile:
        true unless a holder of the lock does not go on."""
        # Its holders wait for nothing but the lock on the file, and for that within bounds.
        with self._between_threads:
            alone = self._lock_file()
            try:
                yield self._counts, alone
            finally:
                if alone:
                    fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def _lock_file(self) -> bool:
        end = None if self._stuck else time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another has it, or there are no locks (ENOLCK)
                if end is None or time.monotonic() >= end:
                    self._stuck = True
                    return False
                # Such a lock can't be waited for with a time limit.
                os.sched_yield()
            else:
                self._stuck = False
                return True

    def total(self) -> int:
        """How many connections all workers have."""
        return sum(self._counts)

    def of(self, slot: int) -> int:
        return self._counts[slot]

    def clear(self, slot: int) -> None:
        """A worker is gone, with its connections. (That only makes room: no lock is needed.)"""
        self._counts[slot] = 0

    def close(self) -> None:
        self._counts.release()
        self._memory.close()
        os.close(self.fd)


def _file_of(size: int) -> int:
    """The descriptor of a file of zeros, without a name. Raises `StartError`."""
    try:
        if hasattr(os, "memfd_create"):  # Linux: where the file system is read-only, too
            fd = os.memfd_create("anysock-slots")
        else:
            with tempfile.TemporaryFile(buffering=0) as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size)
    except OSError as error:
        raise StartError(f"--workers: can't have memory for all of them: {error}") from None
    return fd


class SharedSlots:
    """The slots of one worker: at most `most` for all workers, and `own` for itself, which has no
    more descriptors. `freed` is called when a slot is given back while none was left."""

    def __init__(
        self, table: SlotTable, slot: int, most: int, own: int, freed: Callable[[], None]
    ) -> None:
        self.most = most
        self._table = table
        self._slot = slot
        self._own = own
        self._freed = freed

    def take(self) -> bool:
        with self._table.locked() as (counts, _):
            if counts[self._slot] >= self._own:
                return False
            counts[self._slot] += 1
            if sum(counts) > self.most:
                counts[self._slot] -= 1
                return False
            return True

    def give_back(self) -> None:
        with self._table.locked() as (counts, alone):
            was_full = sum(counts) >= self.most
            counts[self._slot] -= 1
        if was_full or not alone:
            self._freed()

    @property
    def full(self) -> bool:
        table = self._table
        return table.total() >= self.most or table.of(self._slot) >= self._own
