"""A step of a history that never ends: code that computes for ever, or waits for a clock without
letting time pass. It would hold up all that is simulated, and so is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from anysock.sim.origins import Origin, origin_of

#: How long one step may take, in seconds of the processor: a debugger, in which a step stands
#: still, uses none. It is noticed within twice that time.
SECONDS = 5.0


class Runaway(BaseException):
    """Raised in code that does not come to its end, and may catch every Exception."""


@contextlib.contextmanager
def ended(progress: Callable[[], int], tell: Callable[[str], object]) -> Iterator[None]:
    """Within the block, a step that takes too long is ended: `tell` is called with the line where
    it is, and `Runaway` is raised there. `progress()` is a number that each step changes.

    On the main thread only, where signals come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -1

    def look(_signum: int, frame: FrameType | None) -> None:
        nonlocal last
        now = progress()
        if now != last:
            last = now
            return
        tell(_line(frame))
        raise Runaway

    before = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _line(frame: FrameType | None) -> str:
    """The innermost line of the user's own code, or else of anybody's."""
    first = frame
    while frame is not None and origin_of(frame.f_code.co_filename) is not Origin.USER:
        frame = frame.f_back
    frame = frame or first
    assert frame is not None
    return (
        f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}, {frame.f_code.co_name}()"
    )
