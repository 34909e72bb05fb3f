"""The `threads` engine: blocking sockets, and an OS thread for each client.

The `blocking` engine with one difference: `spawn` runs the coroutine on a thread of its own.
Every client sleeps in its own recv(2), and the operating system is the event loop. Each costs a
thread: some kilobytes of memory, and a switch between threads for every message.
"""

from __future__ import annotations

import contextvars
import errno
import threading
from collections.abc import Sequence

from anysock.engines import current
from anysock.engines.base import Name
from anysock.engines.blocking import BlockingEngine
from anysock.engines.blocking_listener import BlockingListener
from anysock.engines.blocking_tasks import BlockingTask
from anysock.engines.signals import leave_signals_to_the_main_thread
from anysock.engines.sockets import open_sockets


class ThreadsEngine(BlockingEngine):
    """Blocking sockets, one thread each."""

    name = "threads"
    concurrent = True

    def listen(
        self, names: Sequence[Name], backlog: int, socket_buffer: int | None = None
    ) -> Sequence[BlockingListener]:
        sockets = open_sockets(names, backlog, socket_buffer)
        return [BlockingListener([sock], keep_waiting=True) for sock in sockets]

    def _start(self, task: BlockingTask) -> None:
        # Daemons: a handler that ignores its cancellation must not keep the process from
        # ending when the drain is over.
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._run, task), name=task.name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            task.drop()
            raise OSError(errno.ENOMEM, "can't start a thread for it") from error

    def _run(self, task: BlockingTask) -> None:
        leave_signals_to_the_main_thread()
        with current.engine_is(self):
            task.run()
