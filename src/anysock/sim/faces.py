"""What the parts of a world know of each other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from anysock.engines.base import Task
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.network import Network

T = TypeVar("T")


class AWorld(Protocol):
    """What is known of a `world.World`."""

    network: Network
    places: dict[str, bool]

    @property
    def chance(self) -> Chance: ...

    @property
    def now(self) -> float: ...

    def failed(
        self, host: str, what: str, error: Exception, stands: Callable[[], bool] = ...
    ) -> None: ...


class AHost(Protocol):
    """What is known of a `hosts.HostHandle`."""

    name: str
    #: A `engines.sim.host.Host`, and the `SimEngine` that runs on it.
    host: Any
    engine: Any
    alive: bool
    #: The servers that are on it now.
    servers: list[Any]

    @property
    def world(self) -> AWorld: ...

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> Task[T]: ...
    def crash(self) -> None: ...
    def call(self, func: Callable[[], T]) -> T: ...
