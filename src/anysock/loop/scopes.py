"""Scopes: blocks of a task that can be given up, for a deadline or on demand.

A scope that fires raises `Cancelled`, marked with the scope, at the await where its task stands,
once. Scopes nest, and each swallows only its own: so it is exact which of them fired.
"""

from __future__ import annotations

from typing import Self

from anysock.errors import Cancelled
from anysock.loop.tasks import Task
from anysock.loop.timers import Timer
from anysock.loop.waits import WaitKernel


class Scope:
    """``async with`` block that ends early, and quietly, when it fires.

    It fires `seconds` after it was entered (None: never), or when `cancel` is called. With
    `shield`, nothing from outside of it is raised within.
    """

    __slots__ = (
        "_cancelled",
        "_kernel",
        "_seconds",
        "_shield",
        "_task",
        "_timer",
        "depth",
        "fired",
    )

    def __init__(self, kernel: WaitKernel, seconds: float | None, shield: bool = False) -> None:
        self._kernel = kernel
        self._seconds = seconds
        self._shield = shield
        self.depth = 0
        self._task: Task | None = None
        self._timer: Timer | None = None
        self._cancelled = False
        #: Whether the block was ended by this scope.
        self.fired = False

    def cancel(self) -> None:
        """Let the scope fire now; before it is entered, as soon as it is."""
        if not self._cancelled:
            self._cancelled = True
            if self._task is not None:
                self._task.cancel(self)

    async def __aenter__(self) -> Self:
        kernel = self._kernel
        self._task = kernel.current
        assert self._task is not None
        if self._shield:
            self.depth = self._task.shield()
        elif self._task.shields is not None:
            self.depth = self._task.shields.depth
        if self._cancelled:
            self._task.cancel(self)
        elif self._seconds is not None:
            self._timer = kernel.timers.add(kernel.clock() + self._seconds, self.cancel)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        task = self._task
        assert task is not None
        self._task = None
        self._cancelled = True
        if self._timer is not None:
            self._kernel.timers.cancel(self._timer)
        # It may have fired while the block was already on its way out.
        task.cancellations = tuple(other for other in task.cancellations if other.scope is not self)
        if self._shield:
            task.unshield()
        self.fired = isinstance(error, Cancelled) and error.scope is self
        return self.fired
