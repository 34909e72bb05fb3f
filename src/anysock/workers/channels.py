"""What the supervisor waits for: the control sockets of its workers, and its wakeup pipe."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable, Iterator

from anysock.workers.process import WorkerProcess


class Channels:
    """A selector over sockets of workers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add_pipe(self, sock: socket.socket) -> None:
        """Wait for `sock`, too, which is no worker's."""
        self._selector.register(sock, selectors.EVENT_READ, None)

    def add(self, worker: WorkerProcess) -> None:
        """Wait for `worker`. Kills it if that is impossible, and raises."""
        try:
            self._selector.register(worker.control.sock, selectors.EVENT_READ, worker)
        except BaseException:
            worker.kill()
            raise

    def has(self, worker: WorkerProcess) -> bool:
        """Whether `worker` is waited for."""
        return worker.control.sock in self._selector.get_map()

    def remove(self, worker: WorkerProcess) -> None:
        """Wait for `worker` no more. Safe to call again."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.control.sock)

    def wait(
        self, seconds: float | None, workers: Iterable[WorkerProcess]
    ) -> Iterator[WorkerProcess | None]:
        """Wait for `seconds` (None: without end) until something comes. Yields the workers that
        have sent something, or can take more; and None for the pipe."""
        self._watch_writable(workers)
        for key, _ in self._selector.select(seconds):
            yield key.data

    def _watch_writable(self, workers: Iterable[WorkerProcess]) -> None:
        """Wake up, too, when a worker can take the messages that it could not take at once."""
        for worker in workers:
            key = self._selector.get_map().get(worker.control.sock)
            wanted = selectors.EVENT_READ
            if worker.control.has_outbox:
                wanted |= selectors.EVENT_WRITE
            if key is not None and key.events != wanted:
                self._selector.modify(key.fileobj, wanted, worker)

    def close(self) -> None:
        self._selector.close()
