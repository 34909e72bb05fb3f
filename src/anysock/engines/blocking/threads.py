"""The `threads` engine: blocking sockets, and an OS thread for each client.

The `blocking` engine with one difference: `spawn` runs the coroutine on a thread of its own.
Every client sleeps in its own recv(2), and the operating system is the event loop. Each costs a
thread: some kilobytes of memory, and a switch between threads for every message.
"""

from __future__ import annotations

from collections.abc import Sequence

from anysock.engines.base import Listener
from anysock.engines.blocking.engine import BlockingEngine
from anysock.engines.blocking.listener import BlockingListener
from anysock.engines.blocking.tasks import BlockingTask
from anysock.engines.posix.listening import ListeningSocket


class ThreadsEngine(BlockingEngine):
    """Blocking sockets, one thread each."""

    name = "threads"
    concurrent = True

    def _listeners(self, opened: list[ListeningSocket]) -> Sequence[Listener]:
        return [BlockingListener([listening]) for listening in opened]

    def _start(self, task: BlockingTask) -> None:
        self._start_thread(task)
