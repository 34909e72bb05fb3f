"""The watchdog: it tells when one step of a task holds up all the others, or one turn of the loop.

A thread that looks at the loop now and then. When it finds the same step of the same task at
several looks, it logs where that task is, while it is there. When it finds the same turn, but other
tasks, it logs which these are: many steps, none of them long, hold up the others as one does. When
the loop sleeps, so does the thread, so that a server without clients uses no CPU; the loop wakes it
when it goes on.
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
    from anysock.loop.tasks import Task

# How many looks are taken in the time that a step may take, or a turn.
LOOKS = 4

# So many tasks must have been seen in a turn for it to be many steps; fewer may be one long step,
# and what came before it.
MANY = 3

_log = logging.getLogger("anysock.loop")


class Watchdog:
    """Warns of steps of `kernel`'s tasks, and of its turns, that take longer than `seconds`.

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
        turn = -1
        # What the looks at this turn have found, each with the time since when it was there.
        steps: list[tuple[Task | None, float]] = []
        task: Task | None
        looks = looks_at_step = 0
        told = False
        while not self._stopping.wait(self._seconds / LOOKS):
            if loop.asleep:
                turn, steps, task = -1, [], None  # no task that has ended is kept for so long
                self._sleep_with_the_loop()
                continue
            if loop.turns != turn:
                turn, steps, looks, told = loop.turns, [], 0, False
            else:
                # Counted in looks, too: a machine that has stopped us both for a while is no step.
                looks += 1
            now, task = time.monotonic(), loop.current
            if steps and steps[-1][0] is task:
                looks_at_step += 1
            else:
                steps.append((task, now))
                looks_at_step = 0
            if looks_at_step == LOOKS and task is not None:
                told = True
                # In the task's context, whose values tell a filter of the log whose step it is.
                context = task.context.copy()
                context.run(self._tell, f"task {task.name!r}", now - steps[-1][1])
            elif looks >= LOOKS and len(steps) >= MANY and not told:
                told = True
                names = ", ".join(repr(task.name) for task, _ in steps if task is not None)
                self._tell(f"a turn with many steps, of {names} among others,", now - steps[0][1])

    def _sleep_with_the_loop(self) -> None:
        bell = threading.Event()
        self._kernel.watchdog_bell = bell
        # In this order: a loop that woke just before finds no bell, but is seen to be awake.
        if self._kernel.asleep and not self._stopping.is_set():
            bell.wait()
        self._kernel.watchdog_bell = None

    def _tell(self, what: str, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        frames = traceback.extract_stack(frame)
        # Only the task's own: what lies below the kernel says nothing about it.
        ours = [number for number, each in enumerate(frames) if each.filename == kernel.__file__]
        stack = "".join(traceback.format_list(frames[ours[-1] + 1 if ours else 0 :])).rstrip()
        told = "%s holds up the loop, for %.2f s now, at\n%s"
        _log.warning(told, what, seconds, stack, extra={"of_lines": True})
