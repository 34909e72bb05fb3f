"""What a handler may call besides its connection: `sleep`, `now`, `spawn`, `timeout`, `connect`, …

Each asks the engine under which the caller runs, so that a handler that uses them runs under
every engine that can.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from anysock import engines
from anysock.engines import own_loop
from anysock.engines.base import Engine, Scope, Task
from anysock.engines.current import current_engine
from anysock.errors import AnysockError
from anysock.hints import add_hint
from anysock.tasks import arguments

if TYPE_CHECKING:
    from anysock.loop.observers import Observer

T = TypeVar("T")


def run(
    main: Callable[..., Coroutine[Any, Any, T]], *args: Any, engine: str | Engine = engines.DEFAULT
) -> T:
    """Run ``main(*args)`` under an engine, and return its result. `engine` is the name of one
    (``anysock engines`` shows them), or an engine that was made for this: an object with what
    `anysock.engines.base.Engine` asks for. It is made for one run.

    Raises `UsageError` for an engine that is unknown or not available, `WrongType` when `main` is
    no async function, and what `main` raises. An error that comes of the loop of another library,
    which does not run here, has a note that says which engine has it.

    >>> async def main():
    ...     await sleep(0)
    ...     return "done"
    >>> run(main, engine="asyncio")
    'done'
    """
    make_engine = engines.engine_maker(engine)
    coro = arguments.started(main, args, "run")
    try:
        chosen = make_engine()
        try:
            return chosen.run(coro)
        except Exception as error:
            add_hint(error, chosen.loop)
            raise
    finally:
        if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
            coro.close()  # no engine has got that far


def observe(observer: Observer) -> None:
    """Tell `observer` what the loop does from now on: its iterations, and the steps of its tasks.

    One that raises is taken out, and reported. Raises `UsageError` under an engine whose loop is
    not ours: only `selector` and `polling` have one.
    """
    own_loop.observe(current_engine(), observer)


async def sleep(seconds: float) -> None:
    """Let `seconds` pass while others run. ``sleep(0)`` lets each of the others run once."""
    arguments.check_seconds(seconds, "sleep")
    await current_engine().sleep(seconds)


def now() -> float:
    """Seconds on the clock of the engine: one that never goes back, and by which `sleep` and the
    deadlines count. Where it began says nothing; the difference of two readings does.

    In a simulation (`anysock.sim`) it is the virtual clock of the caller's host, so that a handler
    that measures with it can be simulated as it is. Raises `UsageError` where no engine runs.

    >>> async def main():
    ...     began = now()
    ...     await sleep(0.01)
    ...     return now() - began >= 0.009
    >>> run(main)
    True
    """
    return current_engine().now()


def spawn(coro: Coroutine[Any, Any, T], name: str | None = None) -> Task[T]:
    """Run `coro` as a task beside the caller; the returned task can be joined and cancelled.

    Under an engine that runs one thing at a time (`blocking`) it runs now, and to its end. A
    task that fails, and that no task is joining, is reported in the log at once.
    """
    arguments.check_task(coro, name, "spawn")
    try:
        return current_engine().spawn(coro, name)
    except AnysockError:
        coro.close()  # it will not run
        raise


def move_on_after(seconds: float | None) -> Scope:
    """``async with move_on_after(5) as scope:`` ends the block quietly after 5 seconds.

    What the block waits for is given up; `scope.fired` tells whether that was so, and
    `scope.cancel()` does it at once. Blocks nest, and each ends only for its own time; None never
    ends it. Under `blocking` and `threads` it bounds each wait for the network, each sleep and
    each wait for an event, but cannot end a function that computes.

    >>> async def main():
    ...     async with move_on_after(0.01) as scope:
    ...         await sleep(60)
    ...     return scope.fired
    >>> run(main)
    True
    """
    arguments.check_seconds(seconds, "move_on_after", none=True)
    return current_engine().scope(seconds)


def shielded(seconds: float) -> Scope:
    """``async with shielded(2):`` holds back what would end the block from outside, for at most 2
    seconds: for clean-up that must not be cut off.

    While the block runs, the task can't be cancelled, be it by its `cancel`, by a `timeout` or a
    task group around the block, or by the end of the server. That is raised at the first `await`
    after the block. A block that takes longer is given up, quietly, as one of `move_on_after` is
    (`scope.fired` tells), for a clean-up that waits for ever must not hold up the end of the
    program. What is inside of the block, such as a `timeout`, works as ever; so blocks nest.

    What is sent or received in it fails when the connection is aborted. Under `asyncio` and
    `uvloop`, it does not hold back what asyncio itself does: ``asyncio.Task.cancel``, called by
    hand, and ``asyncio.timeout``.

    >>> async def main():
    ...     async with move_on_after(0.01) as outer:
    ...         try:
    ...             await sleep(60)
    ...         finally:
    ...             async with shielded(5):
    ...                 await sleep(0.02)
    ...                 print("cleaned up")
    ...     return outer.fired
    >>> run(main)
    cleaned up
    True
    """
    arguments.check_seconds(seconds, "shielded")
    return current_engine().scope(seconds, shield=True)


def timeout(seconds: float | None) -> Timeout:
    """``async with timeout(5):`` raises TimeoutError when the block takes more than 5 seconds.

    Otherwise as `move_on_after`.
    """
    arguments.check_seconds(seconds, "timeout", none=True)
    return Timeout(seconds)


class Timeout:
    """What `timeout` returns."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> Scope:
        self._scope = current_engine().scope(self._seconds)
        return await self._scope.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if await self._scope.__aexit__(kind, error, trace):
            reason = "given up" if self._seconds is None else f"after {self._seconds:g} seconds"
            raise TimeoutError(f"timed out: {reason}") from None


async def to_thread(func: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks, and return its result, while others run."""
    arguments.check_function(func, "to_thread")
    return await current_engine().to_thread(func, *args)
