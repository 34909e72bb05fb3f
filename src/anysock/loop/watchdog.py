"""The watchdog: it warns when one step of a task, or one iteration of the loop, holds up the rest.

A thread that checks the loop now and then. When several checks find the same step of the same task,
it logs where that task is, while it is there; but not of one that is alone, as a server is that
starts: it holds up nobody. When they find the same iteration, but other tasks, it logs which these
are: many steps, none of them long, hold up the others as one does. When the loop sleeps, so does
the thread, so that a server without clients uses no CPU; the loop wakes it when it goes on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from anysock.loop import kernel
from anysock.machine.process import leave_signals_to_the_main_thread

if TYPE_CHECKING:
    from anysock.loop.kernel import Kernel
    from anysock.loop.tasks import Task

# Number of checks in the time that a step, or an iteration, may take.
CHECKS = 4

# An iteration counts as one of many steps from this number of tasks on; fewer may be one long step,
# and what came before it.
MANY_TASKS = 3

# Whose frames stand below those of a task: our kernel's, and where it is observed, those of the
# observers; the loops of asyncio (whose handles call a task's step) and of trio.
_BELOW = (
    kernel.__file__,
    str(Path(kernel.__file__).with_name("observers.py")),
    "/asyncio/events.py",
    "/asyncio/runners.py",
    "/trio/_core/_run.py",
)

_log = logging.getLogger("anysock.loop")


class Watchdog:
    """Warns of steps of `kernel`'s tasks, and of its iterations, that take longer than `seconds`.

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
        wakeup = self._kernel.watchdog_wakeup
        if wakeup is not None:
            wakeup.set()
        self._thread.join()

    def _watch(self) -> None:
        leave_signals_to_the_main_thread()
        loop = self._kernel
        iteration = -1
        # The tasks that the checks of this iteration have found, each with when it was first seen.
        steps: list[tuple[Task | None, float]] = []
        task: Task | None
        checks = checks_of_step = 0
        warned = False
        while not self._stopping.wait(self._seconds / CHECKS):
            if loop.asleep:
                iteration, steps, task = -1, [], None  # keeps no task alive that has ended
                self._sleep_with_the_loop()
                continue
            if loop.iterations != iteration:
                iteration, steps, checks, warned = loop.iterations, [], 0, False
            else:
                # Counted in checks, too: a machine that has stopped both of us is no long step.
                checks += 1
            now, task = time.monotonic(), loop.current
            if steps and steps[-1][0] is task:
                checks_of_step += 1
            else:
                steps.append((task, now))
                checks_of_step = 0
            if checks_of_step == CHECKS and task is not None and not loop.alone(task):
                warned = True
                # In the task's context, whose values tell a filter of the log whose step it is.
                context = task.context.copy()
                context.run(self._warn, f"task {task.name!r}", now - steps[-1][1])
            elif checks >= CHECKS and len(steps) >= MANY_TASKS and not warned:
                warned = True
                names = ", ".join(repr(task.name) for task, _ in steps if task is not None)
                what = f"an iteration with many steps, of {names} among others,"
                self._warn(what, now - steps[0][1])

    def _sleep_with_the_loop(self) -> None:
        wakeup = threading.Event()
        self._kernel.watchdog_wakeup = wakeup
        # In this order: a loop that woke just before finds no event, but is seen to be awake.
        if self._kernel.asleep and not self._stopping.is_set():
            wakeup.wait()
        self._kernel.watchdog_wakeup = None

    def _warn(self, what: str, seconds: float) -> None:
        if not _log.isEnabledFor(logging.WARNING):
            return
        stack = stack_of_step(self._loop_thread)
        warning = "%s holds up the loop, for %.2f s now, at\n%s"
        _log.warning(warning, what, seconds, stack, extra={"of_lines": True})


def stack_of_step(thread: int) -> str:
    """Where the step stands that runs on the thread with that identifier, as a traceback shows it:
    only the task's own frames, since the loop's, which lie below, say nothing about it. Nothing,
    where the thread has ended."""
    frame = sys._current_frames().get(thread)
    step = []
    # Not the whole stack: the sources of all that is below would be read, and kept (0.5 MB).
    while frame is not None and not frame.f_code.co_filename.endswith(_BELOW):
        step.append((frame, frame.f_lineno))
        frame = frame.f_back
    return "".join(traceback.StackSummary.extract(reversed(step)).format()).rstrip()
