"""The `selector` engine: our own event loop. The default.

A task whose operation would block is paused, and the operating system (epoll, kqueue)
is given the descriptor that it waits for. The loop then sleeps in one system call until any of them
is ready: thousands of silent clients cost nothing but their memory.

``anysock/loop`` describes how the loop works, and ``nonblocking`` how sockets are used.
"""

from __future__ import annotations

from anysock.engines.nonblocking.engine import NonblockingEngine
from anysock.loop.pollers import default_poller


class SelectorEngine(NonblockingEngine):
    """Non-blocking sockets, and a loop that sleeps until one of them is ready."""

    name = "selector"

    def __init__(self) -> None:
        super().__init__(default_poller())
