"""An engine on a thread of its own: for what must go on while the server's engine is blocked."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anysock.engines import DEFAULT, make_engine
from anysock.engines.base import Engine, Event
from anysock.errors import StartError
from anysock.machine.process import leave_signals_to_the_main_thread

T = TypeVar("T")

# How long `stop` waits until the thread has ended, in seconds. Nothing waits for that thread when
# the process ends, so what takes longer is left.
STOP_SECONDS = 5.0


def clock() -> float:
    """Seconds on the machine's clock that never goes back, on any thread: for code that watches
    an engine from outside, where `Engine.now` may not be called."""
    return time.monotonic()


class EngineThread:
    """An engine that runs on a thread of its own from `start` to `stop`. `engine` is one, or the
    name of one.

    Raises `UsageError` for one that is unknown, or not available here."""

    def __init__(self, name: str, engine: str | Engine = DEFAULT) -> None:
        self.engine = make_engine(engine)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._begun: concurrent.futures.Future[Event] = concurrent.futures.Future()

    def start(self) -> None:
        """Returns once the engine runs. Raises `StartError` when the machine has no room for
        another thread, and what hinders the engine."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise StartError(f"can't start the thread {self._thread.name!r}: {error}") from None
        self._begun.result()

    def run(self, func: Callable[[], Coroutine[Any, Any, T]], seconds: float | None = None) -> T:
        """Run ``func()`` there, and return its result, or raise what it raises. To be called on
        another thread, which waits until then; raises TimeoutError when that takes more than
        `seconds`."""
        return self.begin(func).result(seconds)

    def begin(self, func: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run ``func()`` there, and return at once; what is returned will have its result."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        async def do() -> None:
            try:
                outcome.set_result(await func())
            except BaseException as error:
                outcome.set_exception(error)
                if not isinstance(error, Exception):
                    raise

        engine, name = self.engine, self._thread.name
        engine.call_from_thread(lambda: engine.spawn_background(do(), name))
        return outcome

    def stop(self) -> bool:
        """End what runs there, and the thread. False when something there does not end."""
        self.engine.call_from_thread(self._begun.result().set)
        self._thread.join(STOP_SECONDS)
        return not self._thread.is_alive()

    def stack(self) -> str:
        """Where the thread stands now, as a traceback shows it."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _run(self) -> None:
        leave_signals_to_the_main_thread()
        try:
            self.engine.run(self._until_stopped())
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _until_stopped(self) -> None:
        stopped = self.engine.event()
        self._begun.set_result(stopped)
        await stopped.wait()
