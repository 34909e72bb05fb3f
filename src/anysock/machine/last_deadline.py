"""How a process ends that does not end by itself."""

from __future__ import annotations

import _thread
import contextlib
import os
import threading
from collections.abc import Callable
from typing import NoReturn

from anysock.machine.process import leave_signals_to_the_main_thread


class LastDeadline:
    """Calls ``end()`` on a thread of its own when the time that was set is over and the process
    still lives. Code that blocks its loop, or swallows its cancellation, does not hold this up."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._begun = False
        self._over = threading.Event()

    def begin(self, seconds: float) -> None:
        """Set it to `seconds` from now; the first call counts. May be called from any thread, and
        from a signal handler."""
        if self._begun or self._over.is_set():
            return
        self._begun = True
        # Not as a threading.Thread: a signal handler may have interrupted code that starts one, and
        # that holds the lock that this would wait for.
        with contextlib.suppress(RuntimeError):  # no room for a thread: then without it
            _thread.start_new_thread(self._wait, (seconds,))

    def over(self) -> None:
        """The process ends by itself: ``end()`` is not called any more."""
        self._over.set()

    def _wait(self, seconds: float) -> None:
        leave_signals_to_the_main_thread()
        if not self._over.wait(seconds):
            self._end()


def exit_after(func: Callable[[], object], seconds: float, code: int) -> NoReturn:
    """Call `func`, on a thread of its own, and end the process with `code` when it returns; but
    after `seconds` at the latest, whatever it waits for."""
    done = threading.Lock()
    done.acquire()

    def call() -> None:
        leave_signals_to_the_main_thread()
        try:
            func()
        finally:
            done.release()

    try:
        _thread.start_new_thread(call, ())
        done.acquire(timeout=seconds)
    finally:
        os._exit(code)
