"""What an engine offers whose event loop is ours, and no other: its loop can be watched.

Such an engine has an `OwnLoop` as its `own_loop`. Of the others nothing is asked: what they do
instead is said here, once.
"""

from __future__ import annotations

from typing import Any, Protocol

from anysock.engines.base import Engine
from anysock.errors import UsageError


class OwnLoop(Protocol):
    """Our loop, to be watched. `loop.observers.WatchedLoop` is one."""

    def observe(self, observer: Any) -> None:
        """Tell `observer`, a `loop.observers.Observer`, what the loop does from now on."""
        ...

    def unobserve(self, observer: Any) -> None:
        """Tell `observer` no more. Does nothing when it is not among the observers."""
        ...

    def watch_steps(self, seconds: float) -> None:
        """Warn, with its stack, of a step of a task that holds up all others for longer. To be
        called before `Engine.run`."""
        ...


def observe(engine: Engine, observer: Any) -> None:
    """`OwnLoop.observe`. Raises `UsageError` where the loop is not ours, or there is none."""
    loop = _own_loop(engine)
    if loop is None:
        raise UsageError(
            f"the engine {engine.name!r} has no loop that can be observed: use 'selector'"
        )
    loop.observe(observer)


def watch_steps(engine: Engine, seconds: float) -> None:
    """`OwnLoop.watch_steps`. Where the loop is not ours, this does nothing."""
    loop = _own_loop(engine)
    if loop is not None:
        loop.watch_steps(seconds)


def _own_loop(engine: Engine) -> OwnLoop | None:
    return getattr(engine, "own_loop", None)
