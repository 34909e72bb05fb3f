"""What must be set right when a process of ours starts: its standard descriptors, which may be
closed, and the signals of the first process of a container."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


def prepare() -> None:
    """To be called first of all by what runs as a program of its own, before slow imports."""
    open_standard_descriptors()
    end_by_sigterm()


def open_standard_descriptors() -> None:
    """Have /dev/null in the place of descriptors 0 to 2 that are closed.

    Else the first socket would get such a number: what is written to standard error would go to a
    client, and libuv ends a process that closes one of the three.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # It gets the lowest number that is free (open(2)), which is this.
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # What the interpreter has found closed, when it started, is None.
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def leave_signals_to_the_main_thread() -> None:
    """To be called on any other thread, when it starts.

    Python runs signal handlers on the main thread. A signal that the system hands to another one
    does not wake the main thread from its sleep, and so it would wait for what that waits for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Within the block, no signal is handled by this thread; and so none of those that were handed
    to it, where it is the main thread. (Those that have come are handled before: pthread_sigmask
    of Python sees to that.)"""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_by_sigterm() -> None:
    """Let the first process of a container end by SIGTERM, as any other does: from process 1 the
    kernel keeps every signal that it has no handler for (pid_namespaces(7))."""
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(signum: int, _frame: FrameType | None) -> NoReturn:
    # Whatever it has interrupted, and at once, as the kernel would; the exit code is the shell's.
    try:
        if select.select([], [2], [], 0)[1]:  # a stuck reader must not hold this up
            os.write(2, f"anysock: ended by {signal.Signals(signum).name}\n".encode())
    finally:
        os._exit(128 + signum)


def sigterm_interrupts() -> None:
    """Let a SIGTERM do what a Ctrl-C does. For commands that have started processes, which would go
    on without them; where it was ignored before, it stays so."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signum: int, _frame: object) -> None:
    # Code that holds back a Ctrl-C, or waits for one, does so for this, too. A shell without job
    # control starts what runs in its background with SIGINT ignored.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    else:
        raise KeyboardInterrupt
