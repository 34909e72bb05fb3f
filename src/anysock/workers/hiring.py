"""Starting workers: the options of each, and what it shares with the others."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from typing import Any

from anysock.errors import UsageError
from anysock.handlers import Handler
from anysock.options.serve import MIN_UDP_RATE, ServeOptions
from anysock.server.server import Lifespan
from anysock.telemetry.events import Events
from anysock.workers.process import WorkerProcess
from anysock.workers.slots import MAX_WORKERS, SlotTable
from anysock.workers.sockets import SharedSockets
from anysock.workers.staffing import MAX_WANTED


def check(
    handler: Handler | str,
    lifespan: Lifespan[Any] | str | None,
    options: ServeOptions,
    events: Events | None,
) -> None:
    """Raises `UsageError` when workers could not be started with that, ever."""
    if options.workers > MAX_WANTED:
        raise UsageError(f"--workers: at most {MAX_WANTED}")
    if not sys.executable:
        raise UsageError("--workers: this Python does not know its interpreter (sys.executable)")
    for what, thing in (("handler", (handler, events)), ("lifespan", lifespan)):
        try:
            pickle.dumps(thing)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f"--workers: the {what} must be a function of a module, so that the workers can "
                f"import it ({error})"
            ) from None


class Hiring:
    """Starts workers that serve ``handler, lifespan, options, events`` on `sockets`: at most
    `max_connections`, all workers together."""

    def __init__(
        self,
        server: tuple[Handler | str, Lifespan[Any] | str | None, ServeOptions, Events | None],
        table: SlotTable,
        sockets: SharedSockets,
        max_connections: int,
    ) -> None:
        self._handler, self._lifespan, self._options, self._events = server
        self._table = table
        self._sockets = sockets
        self._max_connections = max_connections

    def start(self, generation: int, wanted: int, workers: list[WorkerProcess]) -> WorkerProcess:
        """Start one more worker besides `workers`, which are all that there are. Raises one of
        `NOT_STARTED` when that can't be done now."""
        taken = {worker.slot for worker in workers}
        slot = next((slot for slot in range(MAX_WORKERS) if slot not in taken), None)
        if slot is None:
            raise OSError(f"{MAX_WORKERS} workers are there already, with those that are ending")
        return WorkerProcess.start(
            (self._handler, self._lifespan, self._options_of_one(wanted), self._events),
            [self._table.fd, *self._sockets.fds],
            generation=generation,
            slot=slot,
            table_fd=self._table.fd,
            max_connections=self._max_connections,
            figures=self._options.admin is not None,
        )

    def _options_of_one(self, wanted: int) -> ServeOptions:
        """Those of a worker: it listens on the supervisor's sockets, and drains when told to."""
        options, udp_rates = self._options, self.udp_rates(wanted)
        return dataclasses.replace(
            options,
            bind=self._sockets.inherited,
            workers=1,
            admin=None,
            drain_delay=0,
            drain_timeout=options.drain_timeout - options.drain_delay,
            udp_rate=udp_rates["udp_rate"],
            udp_total_rate=udp_rates["udp_total_rate"],
        )

    def udp_rates(self, wanted: int) -> dict[str, float]:
        """The share of one of `wanted` workers in the rates of UDP. Each worker counts for itself,
        and a source may be served by any of them; together they keep to the options. (No share is
        below the minimum of the option.)"""
        return {
            name: max(getattr(self._options, name) / wanted, MIN_UDP_RATE)
            for name in ("udp_rate", "udp_total_rate")
        }
