"""Some hosts in a simulated network with faults, for tests of what these do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anysock
from anysock.engines.sim import here
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.faults import FaultPlan, parse
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network

T = TypeVar("T")


class Hosts:
    """A server, clients, and who tells them what to do."""

    def __init__(self, faults: str | FaultPlan = "", *, seed: int = 1, clients: int = 1) -> None:
        plan = parse(faults) if isinstance(faults, str) else faults
        self.network = Network(seed, plan)
        self.fired = self.network.chance.fired
        self._director = SimEngine(host=Host(self.network, "director"))
        self.server = SimEngine(host=Host(self.network, "server"))
        self.clients = [
            SimEngine(host=Host(self.network, f"client{number}")) for number in range(clients)
        ]
        self.client = self.clients[0]

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `main`, which runs on a host of its own. When it ends, all ends."""
        try:
            return anysock.run(main, engine=self._director)
        finally:
            for engine in (self.server, *self.clients):
                engine.host.enter()
                while engine.watch.tasks:
                    task, _ = engine.watch.tasks.popitem()
                    with contextlib.suppress(Exception):
                        task.coro.close()
                engine.watch.close()
            here.current = None

    async def on(self, engine: SimEngine, coro: Coroutine[Any, Any, T]) -> T:
        """The result of `coro`, which runs on another host."""
        task = engine.spawn_here(coro)
        began = self.network.now
        while not task.done:
            await anysock.sleep(max((self.network.now - began) / 50, 0.001))
            assert self.network.now < 1000, "it never ends"
        return task.result()  # type: ignore[no-any-return]

    def serve(self, handler: Any = "echo", **options: Any) -> anysock.Server[None]:
        """A server that listens, once its host has had a turn."""
        server: anysock.Server[None] = anysock.Server(handler, bind="tcp://:7", **options)
        self.server.spawn_here(server.serve_forever())
        return server

    def ask(
        self, client: Callable[[anysock.Connection], Coroutine[Any, Any, T]], **options: Any
    ) -> T:
        """What `client` returns, which talks to a server that echoes."""

        async def connecting() -> T:
            async with await anysock.connect("server:7") as connection:
                return await client(connection)

        async def main() -> T:
            self.serve(**options)
            await anysock.sleep(0.001)
            return await self.on(self.client, connecting())

        return self.run(main)

    def notes(self, what: str) -> list[tuple[Any, ...]]:
        """What the trace says of it: when, on which host, and details."""
        return [(when, *rest) for when, *rest in self.network.trace if rest[1] == what]
