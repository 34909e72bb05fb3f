"""What a connection knows of the server that has accepted it. (`Server` is on a higher floor.)"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from anysock.engines.base import T, Task

if TYPE_CHECKING:
    # Only there a type variable has a default (PEP 696) in all versions of Python that we run
    # under: a plain ``Connection`` is a ``Connection[Any]``, also for a strict type checker.
    from typing_extensions import TypeVar

    State_co = TypeVar("State_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    State_co = TypeVar("State_co", covariant=True)


class RunningServer(Protocol[State_co]):
    """The members of `anysock.Server` that are for handlers."""

    @property
    def state(self) -> State_co:
        """What its lifespan has given; None where it has none."""
        ...

    @property
    def addresses(self) -> list[str]:
        """The addresses that it listens on, such as ``tcp://127.0.0.1:8000``."""
        ...

    @property
    def connections(self) -> Sequence[Any]:
        """The connections that are open now, each a `Connection`."""
        ...

    @property
    def ending(self) -> bool:
        """Whether it has been told to end."""
        ...

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> Task[T]:
        """Run `coro` as a task that ends with the server; see `Server.spawn`."""
        ...

    def request_end(self) -> None:
        """Tell the server to end, and do not wait for it; see `Server.request_end`."""
        ...
