"""Pollers: they tell the loop which descriptors are ready.

A poller has the five methods of `select.epoll`, so that on Linux the loop uses `select.epoll`
itself, without a layer between: `selectors` would cost a dictionary look-up and a tuple an
event. `SelectorsPoller` gives the same face to what the platform has (kqueue, poll, select).
"""

from __future__ import annotations

import os
import select
import selectors
from collections.abc import Callable
from typing import Protocol

from anysock.errors import UsageError

# The values of poll(2), which epoll shares. They stand here because `select` does not
# define them on every platform.
READABLE = 0x001
WRITABLE = 0x004
FAILED = 0x008 | 0x010  # POLLERR | POLLHUP: reported whether asked for or not


class Poller(Protocol):
    """What the loop asks of a poller: the face of `select.epoll`."""

    def register(self, fd: int, eventmask: int, /) -> None: ...
    def modify(self, fd: int, eventmask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Sleep at most `timeout` seconds (None: without end); return (descriptor, mask) pairs."""
        ...

    def close(self) -> None: ...


class SelectorsPoller:
    """The portable poller, over `selectors.DefaultSelector`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        self._selector.register(fd, _to_selectors(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._selector.modify(fd, _to_selectors(eventmask))

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        # maxevents is epoll's word; selectors returns what there is.
        return [(key.fd, _from_selectors(mask)) for key, mask in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to report. Raises `UsageError`
        where the platform's selector has none."""
        fileno: Callable[[], int] | None = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise UsageError("this system has neither epoll nor kqueue: use another engine")
        return fileno()


def _to_selectors(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READABLE else 0) | (
        selectors.EVENT_WRITE if mask & WRITABLE else 0
    )


def _from_selectors(mask: int) -> int:
    return (READABLE if mask & selectors.EVENT_READ else 0) | (
        WRITABLE if mask & selectors.EVENT_WRITE else 0
    )


def default_poller() -> Poller:
    """`select.epoll` where there is one, else `SelectorsPoller`.

    The environment variable ``ANYSOCK_POLLER=selectors`` chooses the portable one everywhere,
    so that it can be tested on Linux. Raises `UsageError` for any other value.
    """
    chosen = os.environ.get("ANYSOCK_POLLER", "")
    if chosen not in ("", "selectors"):
        raise UsageError(f"ANYSOCK_POLLER is {chosen!r}: it may be selectors, or empty")
    if not chosen and hasattr(select, "epoll"):
        return select.epoll()
    return SelectorsPoller()


def nested_poller() -> tuple[Poller, int]:
    """A `default_poller` that another loop can watch, and the descriptor by which it does.

    Raises `UsageError` where there is neither epoll nor kqueue.
    """
    poller = default_poller()
    fileno: Callable[[], int] = poller.fileno  # type: ignore[attr-defined]
    return poller, fileno()
