"""The watchdog: it tells when one step of a task holds up all the others.

A thread that looks at the loop now and then. When it finds the same step of the same task at
several looks, it logs where that task is, while it is there. When the loop sleeps, so does the
thread, so that a server without clients uses no CPU; the loop wakes it when it goes on.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from anysock.loop import kernel

if TYPE_CHECKING:
    from anysock.loop.kernel import Kernel

# How many looks are taken in the time that a step may take.
LOOKS = 4

_log = logging.getLogger("anysock.loop")


class Watchdog:
    """Warns of steps of `kernel`'s tasks that take longer than `seconds`.

    Made on the thread that runs the kernel; `stop` ends it.
    """

    def __init__(self, kernel: Kernel, seconds: float) -> None:
        self._kernel = kernel
        self._seconds = seconds
        self._loop_thread = threading.get_ident()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        bell = self._kernel.watchdog_bell
        if bell is not None:
            bell.set()
        self._thread.join()

    def _watch(self) -> None:
        # Signals are the main thread's: one that came here would not wake it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        loop = self._kernel
        step: object = None
        since = 0.0
        looks = 0
        while not self._stopping.wait(self._seconds / LOOKS):
            if loop.asleep:
                self._sleep_with_the_loop()
                step = None
                continue
            seen = (loop.turns, loop.current)
            if seen != step:
                step, since, looks = seen, time.monotonic(), 0
                continue
            # Counted in looks, too: a machine that has stopped us both for a while is no step.
            looks += 1
            if looks == LOOKS and seen[1] is not None:
                # In the task's context, whose values tell a filter of the log whose step it is.
                context = seen[1].context.copy()
                context.run(self._tell, seen[1].name, time.monotonic() - since)

    def _sleep_with_the_loop(self) -> None:
        bell = threading.Event()
        self._kernel.watchdog_bell = bell
        # In this order: a loop that woke just before finds no bell, but is seen to be awake.
        if self._kernel.asleep and not self._stopping.is_set():
            bell.wait()
        self._kernel.watchdog_bell = None

    def _tell(self, name: str, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        frames = traceback.extract_stack(frame)
        # Only the task's own: what lies below the kernel says nothing about it.
        ours = [number for number, each in enumerate(frames) if each.filename == kernel.__file__]
        stack = "".join(traceback.format_list(frames[ours[-1] + 1 if ours else 0 :])).rstrip()
        told = "task %r holds up the loop, for %.2f s now, at\n%s"
        _log.warning(told, name, seconds, stack, extra={"of_lines": True})
