"""How signals are heard where the main thread sleeps in a system call."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from anysock.engines.posix.signals import catch_signals
from anysock.errors import StartError
from anysock.machine.process import leave_signals_to_the_main_thread


@contextlib.contextmanager
def heard_on_threads(
    signals: Sequence[int],
    first: Callable[[int], None],
    again: Callable[[int], None],
    others: Mapping[int, Callable[[int], None]],
) -> Iterator[None]:
    """Within the block, `Engine.watch_signals`, with each function called on a thread.

    The main thread may be asleep in recv(2), for a client that never speaks; and a signal that
    arrives while it falls asleep does not even run its handler before it wakes. So what is waited
    for here are the bytes that the interpreter's C code writes for each signal, at once and
    whatever the main thread does: their value is the signal's number.

    `first` has a thread that is there from the beginning: when clients have all threads that there
    may be, a signal must end the process all the same. Raises `StartError` when there is no room
    for the threads.
    """
    hear, tell = socket.socketpair()
    tell.setblocking(False)
    reserve: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def wait_for_the_first() -> None:
        leave_signals_to_the_main_thread()
        signum = reserve.get()
        if signum is not None:
            first(signum)

    def listen_for_signals() -> None:
        leave_signals_to_the_main_thread()
        heard = 0
        while byte := hear.recv(1):
            signum = byte[0]
            if signum in others:
                do(others[signum], signum)
            elif signum in signals:
                heard += 1
                if heard == 1:
                    reserve.put(signum)
                else:
                    again(signum)

    def do(func: Callable[[int], None], signum: int) -> None:
        # On a thread of its own: it may take long, and the next signal may not.
        try:
            _start(on_its_own, "signal", func, signum)
        except RuntimeError:  # there is no room for another
            func(signum)

    def on_its_own(func: Callable[[int], None], signum: int) -> None:
        leave_signals_to_the_main_thread()
        func(signum)

    try:
        try:
            _start(wait_for_the_first, "first signal")
            thread = _start(listen_for_signals, "signals")
        except RuntimeError as error:
            raise StartError(f"can't start the threads that hear signals: {error}") from None
        try:
            with catch_signals(
                signals,
                _leave_to_the_thread,
                _leave_to_the_thread,
                _leave_to_the_thread,
                wakeup=tell,
                others=others,
            ):
                yield
        finally:
            tell.close()
            thread.join()
    finally:
        reserve.put(None)
        tell.close()
        hear.close()


def _start(target: Callable[..., None], name: str, *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _leave_to_the_thread(*_: object) -> None:
    """A signal handler: the signal's byte is on its way to `listen_for_signals`."""
