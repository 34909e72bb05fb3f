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

    Raises `StartError` when there is no room for the threads.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    listener = _SignalListener(reader, signals, first, again, others)
    with reader, writer, listener.started():
        try:
            with catch_signals(
                signals,
                _leave_to_the_thread,
                _leave_to_the_thread,
                _leave_to_the_thread,
                wakeup=writer,
                others=others,
            ):
                yield
        finally:
            writer.close()  # the end of the stream ends the thread that reads it


class _SignalListener:
    """Reads the number of each signal from a socket, and calls its function."""

    def __init__(
        self,
        reader: socket.socket,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]],
    ) -> None:
        self._reader = reader
        self._signals = signals
        self._first = first
        self._again = again
        self._others = others
        # `first` has a thread that is there from the beginning: when clients have all the threads
        # that there may be, a signal must end the process all the same.
        self._for_the_first: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Within the block, the threads run. The thread that reads must have come to the end of
        its stream when the block ends."""
        try:
            try:
                _start(self._wait_for_the_first, "first signal")
                thread = _start(self._listen, "signals")
            except RuntimeError as error:
                raise StartError(f"can't start the threads that hear signals: {error}") from None
            try:
                yield
            finally:
                thread.join()
        finally:
            self._for_the_first.put(None)

    def _wait_for_the_first(self) -> None:
        leave_signals_to_the_main_thread()
        signum = self._for_the_first.get()
        if signum is not None:
            self._first(signum)

    def _listen(self) -> None:
        leave_signals_to_the_main_thread()
        heard = 0
        while byte := self._reader.recv(1):
            signum = byte[0]
            if signum in self._others:
                self._do(self._others[signum], signum)
            elif signum in self._signals:
                heard += 1
                if heard == 1:
                    self._for_the_first.put(signum)
                else:
                    self._again(signum)

    def _do(self, func: Callable[[int], None], signum: int) -> None:
        # On a thread of its own: it may take long, and the next signal may not wait for it.
        try:
            _start(_do_alone, "signal", func, signum)
        except RuntimeError:  # there is no room for another
            func(signum)


def _do_alone(func: Callable[[int], None], signum: int) -> None:
    leave_signals_to_the_main_thread()
    func(signum)


def _start(target: Callable[..., None], name: str, *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _leave_to_the_thread(*_: object) -> None:
    """A signal handler: the signal's byte is on its way to the thread that reads it."""
