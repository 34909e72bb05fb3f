"""Running the admin endpoint, on a thread of its own or where somebody else wants it."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from anysock.admin.figures import Figures
from anysock.admin.history import History
from anysock.admin.places import MAX_CLIENTS, MAX_SEATS
from anysock.engines.base import Task
from anysock.engines.current import current_engine
from anysock.engines.engine_thread import EngineThread
from anysock.extras import needs
from anysock.net.addresses import Address
from anysock.options.serve import ServeOptions
from anysock.server.server import Server
from anysock.streams.connection import Connection
from anysock.telemetry.events import Events

_log = logging.getLogger("anysock.admin")
_ready_log = logging.getLogger("anysock.ready")


class _AdminEvents(Events):
    """Logs what happens to the endpoint. Its clients are not logged; the server logs shortages.
    While it listens, `history` takes its samples."""

    def __init__(self, history: History, *, write: bool) -> None:
        self._history = history
        self._may = "see the connections and " + ("end" if write else "pause") + " the server"
        self._task: Task[None] | None = None

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        for address in addresses:
            shown = Address.parse(address)
            _ready_log.info("admin endpoint on http://%s", shown.short)
            if not _is_loopback(shown.host):
                _log.warning(
                    "whoever can reach %s can %s (--admin): protect it with a firewall",
                    shown.short,
                    self._may,
                )
        self._task = current_engine().spawn_background(self._history.run(), name="history")

    def drained(self, aborted: int, seconds: float) -> None:
        if self._task is not None:
            self._task.cancel()

    def address_left_out(self, address: str, reason: str) -> None:
        _log.info("no admin endpoint on %s: %s", address, reason)

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        _log.error("the admin endpoint failed", exc_info=error)


def admin_server(address: Address | str, figures: Figures, *, write: bool = False) -> Server:
    """The endpoint as a server, to be run on an engine that no handler blocks. With `write`, its
    clients may end connections, and drain the server; without, no more than pause it.

    An `address` without a host, ``":9000"``, is on the loopback interface. Raises `StartError` when
    a package is missing that it needs, and `UsageError` for an address that makes no sense.
    """
    if isinstance(address, str):
        address = Address.parse(address, default_host="127.0.0.1", schemes=("tcp",))
    with needs():
        from anysock.admin.http import HttpHandler
        from anysock.admin.pages import Pages
    history = History(figures)
    # The handler itself enforces the time limits of its clients, more exactly.
    options = ServeOptions(
        bind=(address,),
        # Room for new clients while others leave. (Each needs a descriptor, of those that a server
        # keeps in reserve when it counts how many connections it has room for.)
        max_connections=MAX_CLIENTS + MAX_CLIENTS // 2 + MAX_SEATS,
        idle_timeout=0,
        write_timeout=0,
        min_rate=0,
        max_lifetime=0,
    )
    handler = HttpHandler(Pages(figures, history, write=write))
    return Server(handler, options, events=_AdminEvents(history, write=write))


class AdminEndpoint:
    """Within its ``with`` block, the endpoint answers, on a thread of its own.

    Takes what `admin_server` takes, and raises what it raises; entering it raises `StartError` when
    `address` can't be listened on.
    """

    def __init__(self, address: Address | str, figures: Figures, *, write: bool = False) -> None:
        self._server = admin_server(address, figures, write=write)

    def __enter__(self) -> Self:
        self._thread = EngineThread("admin")
        self._thread.start()
        try:
            self._thread.run(self._server.__aenter__)
        except BaseException:
            self._thread.stop()
            raise
        return self

    @property
    def addresses(self) -> list[str]:
        """Where it listens, such as ``tcp://127.0.0.1:9000``."""
        return self._server.addresses

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.run(self._end)
        self._thread.stop()

    async def _end(self) -> None:
        await self._server.drain(0)
        await self._server.__aexit__(None, None, None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
