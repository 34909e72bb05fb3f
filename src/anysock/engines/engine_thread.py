"""An engine on a thread of its own: for what must go on while the server's engine is blocked."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anysock.engines import DEFAULT, make_engine
from anysock.engines.base import Event
from anysock.engines.current import current_engine
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
    """An engine that runs on a thread of its own from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        self._engine = make_engine(DEFAULT)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopped: Event | None = None

    def start(self) -> None:
        """Raises `StartError` when the machine has no room for another thread."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise StartError(f"can't start the thread {self._thread.name!r}: {error}") from None

    def run(self, func: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``func()`` there, and return its result, or raise what it raises. To be called on
        another thread, which waits until then."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        async def do() -> None:
            try:
                outcome.set_result(await func())
            except BaseException as error:
                outcome.set_exception(error)
                if not isinstance(error, Exception):
                    raise

        self._engine.call_from_thread(lambda: self._engine.spawn(do()))
        return outcome.result()

    def stop(self) -> None:
        """End what runs there, and the thread."""
        self._engine.call_from_thread(self._end)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        leave_signals_to_the_main_thread()
        self._engine.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stopped = current_engine().event()
        await self._stopped.wait()

    def _end(self) -> None:
        # What is called from other threads is called once the first tasks have begun.
        assert self._stopped is not None
        self._stopped.set()
