"""What the admin endpoint shows, and where it is from."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from anysock.admin.loop_lag import LoopLagProbe
from anysock.admin.query import LiveQuery
from anysock.admin.watching import Watching, table, tls_of, via_of, waits_for
from anysock.engines.base import Engine, Task
from anysock.engines.current import current_engine
from anysock.engines.engine_thread import clock as machine_clock
from anysock.errors import AnysockError
from anysock.loop.watchdog import stack_of_step
from anysock.net.addresses import format_peer
from anysock.server.server import Server
from anysock.streams.connection import Connection
from anysock.telemetry import metrics
from anysock.telemetry.events import EventGroup, Events
from anysock.telemetry.metrics import Snapshot

#: `/healthz` fails when the engine's periodic wake-up is overdue by this time, in seconds. A
#: restart drops every connection, so this must be longer than any handler blocks that will end.
STUCK_SECONDS = 30.0

#: An engine whose wake-up is overdue by this time, in seconds, is shown as held up, with the stack.
HELD_UP_SECONDS = 0.5


class Figures(Protocol):
    """What the endpoint asks. It calls these methods on its own thread, one after the other, and
    answers no client meanwhile: each must return soon, whatever the server does."""

    def snapshot(self) -> Snapshot:
        """The figures now; see `anysock.telemetry.metrics`. The endpoint is healthy until all
        `workers` are `stuck`."""
        ...

    def connections(self, most: int) -> list[dict[str, Any]]:
        """The connections that have been open for longest, at most `most`; see `describe`."""
        ...

    def ready(self) -> str | None:
        """Why a load balancer should send no clients; None: the server is ready for them."""
        ...

    def live(self, query: LiveQuery) -> dict[str, Any]:
        """What a viewer sees: `figures`, a snapshot; `steps`, how many steps of the loop took how
        long, by `watching.STEP_BUCKETS`, or None; `workers`, each with its `pid`, `connections`,
        `lag`; `held_up`, of those that are, the `pid`, for how many `seconds`, and the `stack`; how
        many connections are `open`, and `matching` the query; and `rows`, in any order, those of
        its page and before it: see `describe`, with `rate_in` and `rate_out` in bytes a second."""
        ...

    def end(self, connection: str) -> bool:
        """Abort the connection with this ID. False: there is none such."""
        ...

    def drain(self) -> None:
        """End the server, as SIGTERM does."""
        ...

    def pause(self) -> None:
        """Accept no more clients."""
        ...

    def resume(self) -> None:
        """Accept clients again."""
        ...


class ServerFigures(Events):
    """The figures of a server in this process.

    To be made before the server starts: it listens to its events from then on, and runs a
    `LoopLagProbe` on its engine. Its methods (except those of `Events`) may be called from any
    thread, and answer while the engine is blocked.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = machine_clock) -> None:
        self._server = server
        self._watching = Watching(clock)
        self._probe = LoopLagProbe(clock, self._tick)
        # The thread that the engine runs on.
        self._thread = 0
        self._probe_task: Task[Any] | None = None
        self._engine: Engine | None = None
        self._most_connections = 0
        self._over = False
        server.events = EventGroup(server.events, self)

    # -- Figures ---------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        probe = self._probe
        return metrics.snapshot(
            self._server.counters,
            self._engine,
            most_connections=self._most_connections,
            lag=probe.lag,
            highest_lag=probe.highest,
            stuck=int(probe.overdue > STUCK_SECONDS),
        )

    def connections(self, most: int) -> list[dict[str, Any]]:
        now = self._probe.now()
        oldest = self._server.counters.oldest(most)
        return [describe(connection, now - opened_at) for connection, opened_at in oldest]

    def live(self, query: LiveQuery) -> dict[str, Any]:
        if query.watch:
            self._watching.renew()
        now, probe = self._probe.now(), self._probe
        everyone = self._server.counters.oldest(None) if query.most else []
        matching, rows = table(query, everyone, now, self._watching.rates, describe)
        figures = self.snapshot()
        worker = {"pid": os.getpid(), "connections": figures["connections"], "lag": probe.lag}
        held_up = []
        if (seconds := probe.overdue) >= HELD_UP_SECONDS:
            stack = stack_of_step(self._thread)
            held_up.append({"pid": os.getpid(), "seconds": round(seconds, 3), "stack": stack})
        return {
            "figures": figures,
            "steps": self._watching.step_counts(),
            "workers": [worker],
            "held_up": held_up,
            "open": max(figures["connections"], len(rows)),
            "matching": matching,
            "rows": rows,
        }

    def end(self, connection: str) -> bool:
        for each, _ in self._server.counters.oldest(None):
            if each.id == connection:
                each.abort()
                return True
        return False

    def drain(self) -> None:
        self._server.request_end()

    def ready(self) -> str | None:
        return self._server.unready

    def pause(self) -> None:
        self._server.pause()

    def resume(self) -> None:
        if not self._over:  # then there is no engine left
            self._server.resume()

    # -- Events ----------------------------------------------------------------------------------

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        self._engine = current_engine()
        self._thread = threading.get_ident()
        self._probe_task = self._engine.spawn_background(self._probe.run(), name="loop lag probe")

    def most_connections(self, most: int, derived: bool) -> None:
        self._most_connections = most

    def drained(self, aborted: int, seconds: float) -> None:
        self._over = True
        self._watching.stop()
        if self._probe_task is not None:
            self._probe_task.cancel()

    def _tick(self) -> None:
        assert self._engine is not None
        if not self._over:
            self._watching.tick(self._engine)


def describe(connection: Connection, seconds: float) -> dict[str, Any]:
    """What `/connections` shows of a connection that has been open for `seconds`.

    Addresses are as ``127.0.0.1:61137``; `tls` is the version of TLS, if it is spoken; `waits_for`
    is ``send`` while the peer does not read, ``receive`` while it has nothing to say, and otherwise
    ``handler``.
    """
    local: str | None = None
    # It may be closed at this very moment.
    with contextlib.suppress(AnysockError, OSError):
        local = format_peer(connection.local)
    return {
        "id": connection.id,
        "peer": format_peer(connection.peer),
        "via": via_of(connection),
        "local": local,
        "tls": tls_of(connection),
        "seconds": round(seconds, 3),
        "bytes_in": connection.bytes_received,
        "bytes_out": connection.bytes_sent,
        "waits_for": waits_for(connection),
    }
