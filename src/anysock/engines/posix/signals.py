"""Signals, caught so that no engine loses one, however it waits."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

from anysock.engines.base import NOTHING
from anysock.machine.process import leave_signals_to_the_main_thread


def is_ignored(signum: int) -> bool:
    """Whether that signal was ignored when the process began, or has been since."""
    return signal.getsignal(signum) is signal.SIG_IGN


@contextlib.contextmanager
def catch_signals(
    signals: Sequence[int],
    deliver: Callable[[Callable[[int], None], int], None],
    first: Callable[[int], None],
    again: Callable[[int], None],
    *,
    wakeup: socket.socket | None,
    others: Mapping[int, Callable[[int], None]] = NOTHING,
) -> Iterator[None]:
    """Within the block, the first of `signals` leads to ``deliver(first, signal)``, each further
    one to ``again(signal)``, and each of `others` to ``deliver(its function, signal)``. Those that
    are ignored stay so: the program that started us, a shell in whose background we run or
    nohup(1), has arranged that they are for others.

    They are called in the signal handler, on the main thread, between two bytecodes: `deliver` must
    only pass the news on. `wakeup`, a non-blocking socket, gets a byte for each signal from the
    interpreter's C code: a signal that arrives just before the process goes to sleep would
    otherwise be seen when it wakes for some other reason (signal.set_wakeup_fd). None: the loop
    that runs has seen to that itself.
    """
    seen = 0

    def handle(signum: int, _frame: object) -> None:
        nonlocal seen
        if signum in others:
            deliver(others[signum], signum)
            return
        seen += 1
        if seen == 1:
            deliver(first, signum)
        else:
            again(signum)

    if wakeup is not None:
        previous_wakeup = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    wanted = [signum for signum in [*signals, *others] if not is_ignored(signum)]
    previous = {signum: signal.signal(signum, handle) for signum in wanted}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        if wakeup is not None:
            signal.set_wakeup_fd(previous_wakeup)


@contextlib.contextmanager
def held_back(signals: Sequence[int]) -> Iterator[Callable[[], None]]:
    """From the entry of the block on, `signals` wait, until the function that it gives is called,
    or the block ends: for code that puts several handlers in place, none of which may miss one. To
    be entered on the main thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    held = True

    def let_come() -> None:
        nonlocal held
        if held:
            held = False
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield let_come
    finally:
        let_come()


@contextlib.contextmanager
def heard_at_once(signals: Sequence[int], func: Callable[[int], None]) -> Iterator[None]:
    """Within the block, each of `signals` calls ``func(signal)``, in the signal handler, and then
    does what it did. To be entered on the main thread, within `catch_signals`."""

    def handle(signum: int, frame: FrameType | None) -> None:
        func(signum)
        before = previous[signum]
        assert callable(before)
        before(signum, frame)

    found = {signum: signal.getsignal(signum) for signum in signals}
    previous = {signum: before for signum, before in found.items() if callable(before)}
    for signum in previous:
        signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, before in previous.items():
            signal.signal(signum, before)


@contextlib.contextmanager
def bounded_once_told(
    signals: Sequence[int], seconds: float, give_up: Callable[[int], None]
) -> Iterator[None]:
    """Within the block, each of `signals` does what it did; and if the block has not come to its
    end `seconds` after that, ``give_up(signal)`` is called, on another thread.

    For a block that may wait for ever, on the main thread: what a signal is to do on the loop is
    not done then. To be entered on the main thread, within `catch_signals`.
    """
    over = threading.Event()

    def watch(signum: int) -> None:
        leave_signals_to_the_main_thread()
        if not over.wait(seconds):
            give_up(signum)

    def heard(signum: int) -> None:
        threading.Thread(target=watch, args=(signum,), name="start", daemon=True).start()

    with heard_at_once(signals, heard):
        try:
            yield
        finally:
            over.set()
