"""The `sim` engine: the real loop and the real streams, in a simulated network."""

from __future__ import annotations

import contextlib
import contextvars
import gc
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from anysock.engines.base import NOTHING
from anysock.engines.running import engine_is
from anysock.engines.sim import here
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network
from anysock.engines.sim.poller import SimPoller
from anysock.engines.sim.relinked import NonblockingEngine
from anysock.engines.sim.schedules import schedule
from anysock.engines.sim.tls_chance import seeded
from anysock.machine.chance import drawn_from

T = TypeVar("T")

# How long a function takes that blocks, at most, in seconds.
_THREAD_SECONDS = 0.01

if TYPE_CHECKING:
    from anysock.engines.nonblocking.engine import NonblockingEngine as Base
else:
    Base = NonblockingEngine


class SimEngine(Base):
    """An engine on a host of a simulated network; without a `host`, on the only one of a network of
    its own, which `seed` decides."""

    name = "sim"

    def __init__(self, seed: int = 0, *, host: Host | None = None) -> None:
        host = host or Host(Network(seed), "localhost")
        self.host = host
        self.network = host.network
        self.poller = SimPoller(host)
        self._handlers: dict[int, Callable[[int], None]] = {}
        host.engine, host.poller = self, self.poller
        before, here.current = here.current, host
        try:
            # The kernel of the loop makes sockets of its own.
            super().__init__(self.poller, self.network.look)
        finally:
            here.current = before
        host.kernel = self._kernel
        faults = self.network.faults
        if faults is not None and (kind := faults.kinds.get("schedule")) is not None:
            schedule(self._kernel, kind, host.name)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        self.poller.drives = True
        before = here.current
        # To collect garbage runs finalizers, at a time that depends on all that the process has
        # done before.
        collecting = gc.isenabled()
        gc.disable()
        chance = self.network.chance
        try:
            with (
                engine_is(self),
                drawn_from(lambda: chance.stream("seeds")),
                seeded(lambda: chance.stream("openssl")) as self.network.exact,
            ):
                self.host.enter()
                try:
                    result: T = self._kernel.run(main)
                    return result
                finally:
                    if self.network.exact:
                        self.network.note("network", "carried", f"{self.network.carried:08x}")
        finally:
            here.current = before
            if collecting:
                gc.enable()

    def spawn(self, coro: Coroutine[Any, Any, Any], name: object = None) -> Any:
        self.network.busy(self.host)
        return super().spawn(coro, name)

    spawn_background = spawn

    def spawn_here(self, coro: Coroutine[Any, Any, Any], name: object = None) -> Any:
        """`spawn`, called by what runs on another host."""
        with self.host.entered():
            return self.spawn(coro, name)

    def call_from_thread(self, func: Callable[[], object]) -> None:
        def call() -> None:
            if self.host.engine is self:
                self.host.enter()
                func()
                self.host.plan()

        self.network.after(0.0, call)

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        chance = self.network.chance.stream("threads")
        await self.sleep(chance.uniform(0, _THREAD_SECONDS))
        return contextvars.copy_context().run(func, *args)

    @contextlib.contextmanager
    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> Iterator[None]:
        told = False

        def ending(signum: int) -> None:
            nonlocal told
            (again if told else first)(signum)
            told = True

        before = dict(self._handlers)
        self._handlers |= {int(signum): ending for signum in signals}
        self._handlers |= {int(signum): func for signum, func in others.items()}
        try:
            yield
        finally:
            self._handlers = before

    def signal(self, signum: int) -> bool:
        """Let a signal come. False: nobody watches for it, so that it would end the process."""
        handler = self._handlers.get(int(signum))
        if handler is None:
            return False
        self.call_from_thread(lambda: handler(signum))
        return True

    def time(self) -> float:
        return self.host.wall_clock()
