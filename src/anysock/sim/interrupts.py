"""A Ctrl-C comes between two histories, and not within one: there it might look like a fault of the
handler that it happens to meet."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A Ctrl-C within the block is raised at its end; a second one at once."""
    usual = signal.default_int_handler
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not usual:
        yield  # it does something else already, or nothing
        return
    came = False

    def hold(signum: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            usual(signum, frame)
        came = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        raise KeyboardInterrupt
