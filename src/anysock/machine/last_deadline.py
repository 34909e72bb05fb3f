"""How a process ends that does not end by itself."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from typing import NoReturn

from anysock.machine.process import leave_signals_to_the_main_thread

# How long `LastDeadline.over` waits for its thread, which has nothing left to do.
_JOIN_SECONDS = 1.0


class LastDeadline:
    """Calls ``end()`` on a thread of its own when the time that was set is over and the process
    still lives. Code that blocks its loop, or swallows its cancellation, does not hold this up."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._begun = False
        self._over = threading.Event()
        # Held while the thread runs.
        self._running = threading.Lock()

    def begin(self, seconds: float) -> None:
        """Set it to `seconds` from now; the first call counts. May be called from any thread, and
        from a signal handler."""
        if self._begun or self._over.is_set():
            return
        self._begun = True
        # Not as a threading.Thread: a signal handler may have interrupted code that starts one, and
        # that holds the lock that this would wait for.
        self._running.acquire(blocking=False)
        try:
            _thread.start_new_thread(self._wait, (seconds,))
        except RuntimeError:  # no room for a thread: then without it
            self._running.release()

    def over(self) -> None:
        """The process ends by itself: ``end()`` is not called any more. Waits for the thread: one
        that ends while the interpreter is taken down may crash it (seen with 3.11)."""
        self._over.set()
        if self._running.acquire(timeout=_JOIN_SECONDS):
            self._running.release()

    def _wait(self, seconds: float) -> None:
        try:
            leave_signals_to_the_main_thread()
            if not self._over.wait(seconds):
                self._end()
        finally:
            self._running.release()


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
