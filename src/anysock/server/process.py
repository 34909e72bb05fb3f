"""A process that is the server, and nothing else: its signals, and its end in any case."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from anysock.engines.base import NOTHING, Engine
from anysock.engines.posix.signals import heard_at_once, held_back
from anysock.machine.last_deadline import LastDeadline, exit_after
from anysock.telemetry.logs import last_words

# Seconds that a start which has been told to end may still take.
START_SECONDS = 1.0

# Seconds that a process lives at most after the deadline of its server's drain, and that it may
# take to say so.
LAST_SECONDS = 1.0
SAY_SECONDS = 1.0

# How many are named of those that did not end.
MAX_NAMED = 5

#: The signals that end a server.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class OwnProcess:
    """Ends the process when its server does not end in time, because a handler swallows its
    cancellation, say, or never lets others run. The log then names what is left: ``what_is_left()``
    knows that."""

    def __init__(self, what_is_left: Callable[[], Sequence[str]]) -> None:
        #: What is called before such an exit, and its exit code.
        self.before_exit: Callable[[], object] = lambda: None
        self.exit_code = 1
        #: Whether SIGINT is caught: then no KeyboardInterrupt comes from a Ctrl-C.
        self.catches_sigint = False
        #: Where others decide about the end of the server: asks them for it.
        self.asks_to_end: Callable[[], object] | None = None
        self._what_is_left = what_is_left
        self._deadline: LastDeadline | None = None

    @contextlib.contextmanager
    def bounded(self) -> Iterator[None]:
        """Within the block, the process is the server: it ends at most a second after the deadline
        of the drain."""
        if self._deadline is not None:
            yield  # within such a block
            return
        self._deadline = deadline = LastDeadline(self.exit)
        try:
            yield
        finally:
            deadline.over()
            self._deadline = None

    def run(self, engine: Engine, main: Coroutine[Any, Any, object]) -> None:
        """Run `main`, which is the server, and end with it."""
        with self.bounded():
            engine.run(main)
            # Tasks that handlers have spawned may be late, too.
            if engine.left:
                self.exit()

    def drain_begins(self, seconds: float) -> None:
        """From now on, a drain has `seconds`. May be called from any thread, and from a signal
        handler."""
        if self._deadline is not None:
            self._deadline.begin(seconds + LAST_SECONDS)

    def drain_left_handlers(self) -> None:
        """The drain is over, and handlers are left."""
        if self._deadline is not None:
            self.exit()

    def exit(self) -> NoReturn:
        """Log what is left, and end the process. May be called from any thread."""

        def say() -> None:
            left = self._what_is_left()
            told = ", ".join(left[:MAX_NAMED]) or "something"
            if len(left) > MAX_NAMED:
                told += f" and {len(left) - MAX_NAMED} more"
            text = f"{told} did not end, though told to, and the time is over: exiting"
            last_words(text, logging.ERROR)
            self.before_exit()
            sys.stdout.flush()

        exit_after(say, SAY_SECONDS, self.exit_code)

    @contextlib.contextmanager
    def signals(
        self,
        engine: Engine,
        signals: Sequence[int],
        end: Callable[[int], None],
        seconds: float,
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> Iterator[None]:
        """Within the block, the first of `signals` calls ``end(signal)``, which begins a drain of
        `seconds`, and a second one ends the process at once; each of `others` calls its function.
        To be entered on the main thread."""
        self.catches_sigint = signal.SIGINT in signals
        try:
            with (
                self.bounded(),
                held_back(signals) as let_come,
                engine.watch_signals(signals, end, _exit_at_once, others),
                heard_at_once(signals, lambda _signum: self.drain_begins(seconds)),
            ):
                let_come()
                yield
        finally:
            self.catches_sigint = False


def exit_without_start(signum: int) -> None:
    """The server was told to end while its start waits, for a file, say."""
    try:
        name = signal.Signals(signum).name
        last_words(f"{name} while the server starts, which does not come to its end: exiting")
    finally:
        os._exit(0)


def _exit_at_once(signum: int) -> None:
    """A second signal: end the process now, even if a handler holds it up."""
    try:
        tell_of_second_signal(signum)
    finally:
        os._exit(1)


def tell_of_second_signal(signum: int) -> None:
    """Log that the process ends at once."""
    last_words(f"a second signal, {signal.Signals(signum).name}: exiting at once")
