"""The real server on a host of a history."""

from __future__ import annotations

import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from anysock.engines.current import current_engine
from anysock.engines.sim import here
from anysock.errors import UsageError
from anysock.handlers import Handler
from anysock.options.serve import ServeOptions
from anysock.server.process import ENDING_SIGNALS
from anysock.server.server import Server
from anysock.sim.faces import AHost
from anysock.sim.tasks import Crashed
from anysock.streams.connection import Connection
from anysock.streams.running import State_co
from anysock.telemetry.events import CloseReason, EventGroup, Events

T = TypeVar("T")


class HostServer(Server[State_co]):
    """A `Server` on a host. What another host calls of it happens on its own."""

    def __init__(
        self,
        host: AHost,
        handler: Handler[State_co] | str,
        options: ServeOptions,
        *,
        events: Events | None,
        **more: Any,
    ) -> None:
        for name in ("admin", "workers"):
            if getattr(options, name) not in (None, 1):
                raise UsageError(f"{name}: a simulated host is one process, without an admin page")
        self.host = host
        #: What handlers and the lifespan have raised, the oldest first. What a test expects, it
        #: takes out: what is left makes the history fail.
        self.failures: list[BaseException] = []
        told = [_Notes(self), *([] if events is None else [events])]
        super().__init__(handler, options, events=EventGroup(*told), **more)

    async def run_on_host(self) -> None:
        """Serve until it was told to end: by `drain`, or by SIGINT or SIGTERM, which its host got.
        A second one ends the host's process at once; SIGHUP leads to `reload`.

        :meta private:
        """
        engine = current_engine()

        def end(_signum: int) -> None:
            engine.spawn(self.end(), name="drain")

        def at_once(_signum: int) -> None:
            self.host.crash()

        others = {int(signal.SIGHUP): lambda _signum: self.reload()}
        with engine.watch_signals(ENDING_SIGNALS, end, at_once, others):
            await self.serve_forever()

    def mute(self) -> None:
        """Its host has crashed, or the history is over: what becomes of it, nobody is told.

        :meta private:
        """
        vars(self.events).clear()
        vars(self.events).update(vars(EventGroup()))

    async def _there(self, coro: Coroutine[Any, Any, T]) -> T:
        if here.current is self.host.host:
            return await coro
        if not any(each is self for each in self.host.servers):
            coro.close()
            raise Crashed(f"this server of the host {self.host.name!r} has crashed")
        return await self.host.spawn(coro, "drain").join()

    async def drain(self, timeout: float | None = None) -> int:
        return await self._there(super().drain(timeout))

    async def end(self) -> int:
        return await self._there(super().end())

    async def retire(self) -> int:
        return await self._there(super().retire())


class _Notes(Events):
    """What the story tells of a server, and what makes a history fail."""

    def __init__(self, server: HostServer[Any]) -> None:
        self._server = server

    def _note(self, what: str, *details: object) -> None:
        host = self._server.host
        host.world.network.note(host.name, what, *details)

    def _failed(self, what: str, error: BaseException) -> None:
        server = self._server
        server.failures.append(error)
        if isinstance(error, Exception):
            host = server.host

            def stands() -> bool:
                return any(each is error for each in server.failures)

            host.world.failed(host.name, what, error, stands)

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        self._note("listens", *addresses)

    def connection_opened(self, connection: Connection) -> None:
        self._note("serves", connection.peer)

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        self._note("handler failed", connection.peer, repr(error))
        self._failed("handler", error)

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        self._note("closed", connection.peer, reason.value)

    def lifespan_failed(self, at: str, error: BaseException) -> None:
        self._note(f"lifespan failed at its {at}", repr(error))
        self._failed("lifespan", error)

    def accept_error(self, error: Exception) -> None:
        self._note("accept failed", error)

    def drain_begun(self, connections: int, seconds: float) -> None:
        self._note("drains", connections, "connections")

    def drained(self, aborted: int, seconds: float) -> None:
        self._note("has drained", aborted, "aborted")
