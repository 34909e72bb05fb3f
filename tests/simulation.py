"""The engine `sim`, for tests of what is about time and order: its clock jumps."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network

T = TypeVar("T")


class IdleClock(Network):
    """A network in which only waiting takes time: neither a look at the clock does, nor a step."""

    def look(self) -> float:
        return self.now


def exact_engine() -> SimEngine:
    """An engine on one host, by whose clock 0.1 s are 0.1 s, to the last digit."""
    return SimEngine(host=Host(IdleClock(), "localhost"))


def run_exactly(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, which runs on an `exact_engine`."""
    result: T = exact_engine().run(main)
    return result
