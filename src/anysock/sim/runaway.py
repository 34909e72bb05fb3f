"""A step of a history that never ends: code that computes for ever, or waits for a clock without
letting time pass. It would hold up all that is simulated, and so is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from anysock.sim.origins import Origin, origin_of

#: How long one step may take, in seconds of the processor: a debugger, in which a step stands
#: still, uses none. It is noticed within twice that time.
SECONDS = 5.0


class Runaway(BaseException):
    """Raised in code that does not come to its end, and may catch every Exception."""


class Stepping(Protocol):
    """A history that goes on, step by step."""

    @property
    def steps(self) -> int:
        """How many steps it has had."""
        ...

    def runs_away(self, where: str) -> None:
        """A step takes too long: `Runaway` is about to be raised, at the line `where`."""
        ...


# What runs now; and what it was when it was last looked at, and at which step.
_runs: Stepping | None = None
_seen: tuple[Stepping | None, int] = None, 0
_in_place = False


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Within the block, it is looked at now and then whether a history goes on: for who runs many,
    and would begin to look in each. On the main thread only, where signals come."""
    global _in_place
    if _in_place or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _look)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
    _in_place = True
    try:
        yield
    finally:
        _in_place = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def ended(history: Stepping) -> Iterator[None]:
    """Within the block, a step of `history` that takes too long is ended."""
    global _runs, _seen
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with in_place():
        _runs = history
        try:
            yield
        finally:
            _runs, _seen = None, (None, 0)


def _look(_signum: int, frame: FrameType | None) -> None:
    global _seen
    runs = _runs
    if runs is None:
        return
    now = runs, runs.steps
    if now != _seen:
        _seen = now
        return
    runs.runs_away(_line(frame))
    raise Runaway


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
