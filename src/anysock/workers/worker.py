"""What runs in a worker: a server like any other, and a thread that does what the supervisor says.

python -m anysock.workers.worker CONTROL_FD
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import runpy
import signal
import socket
import sys
import threading
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anysock.engines import make_engine
from anysock.engines.base import Engine
from anysock.engines.own_loop import watch_steps
from anysock.engines.posix.machine import MACHINE
from anysock.errors import AnysockError, StartError, UsageError
from anysock.machine.process import leave_signals_to_the_main_thread, open_standard_descriptors
from anysock.server.admission import connections_that_fit
from anysock.server.server import Server
from anysock.telemetry.events import FOR_ALL_WORKERS, EventGroup
from anysock.telemetry.logs import LogEvents, configure_logging, flush_log
from anysock.telemetry.metrics import Snapshot
from anysock.traces.tracing import traced_server
from anysock.workers.control import ToSupervisor
from anysock.workers.slots import SharedSlots, SlotTable

if TYPE_CHECKING:
    from anysock.admin.figures import ServerFigures


_log = logging.getLogger("anysock")


@dataclass(frozen=True)
class Job:
    """What a worker is started for."""

    #: Pickled: handler, lifespan, options and events. To be read once the rest is in place.
    server: bytes
    #: The program whose handler it is, as runpy wants it; both None where it needs no more than
    #: what can be imported.
    main_module: str | None
    main_path: str | None
    import_path: list[str]
    #: The index of this worker in the table of slots, the descriptor of the table, and the maximum
    #: of connections for all workers together.
    slot: int
    table_fd: int
    max_connections: int
    #: Whether it will be asked for its figures.
    figures: bool


class Worker:
    """The server of this process, and the thread that does what the supervisor says."""

    def __init__(self, control: ToSupervisor, job: Job) -> None:
        self._control = control
        table = SlotTable(job.table_fd)
        sys.path[:] = job.import_path
        if job.main_module or job.main_path:
            _take_the_place_of(job.main_module, job.main_path)
        handler, lifespan, options, events = _unpickled(job.server)
        configure_logging(options.log_level, options.log_format, options.log_time)
        slots = SharedSlots(
            table, job.slot, job.max_connections, connections_that_fit(MACHINE), self._freed
        )
        # The supervisor logs what concerns all workers.
        log = EventGroup(LogEvents.of(options), without=FOR_ALL_WORKERS)
        self.server = Server(handler, options, lifespan=lifespan, events=events or log, slots=slots)
        self.server.process.asks_to_end = lambda: control.send(end=True)
        self._figures: ServerFigures | None = None
        if job.figures:
            from anysock.admin.figures import ServerFigures

            self._figures = ServerFigures(self.server)
        self.engine: Engine = make_engine(options.engine)
        if options.slow_step:
            watch_steps(self.engine, options.slow_step)

    def _freed(self) -> None:
        # If this is lost, the other workers check by themselves, now and then.
        self._control.send_if_ready(freed=True)

    def run(self) -> None:
        """Serve until the supervisor, or a signal, has ended it."""
        server = self.server
        server.process.exit_code = 0  # the supervisor has its own, for all
        server.process.before_exit = lambda: self._control.send(
            drained=max(server.aborted, 1), figures=self.last_figures
        )
        with traced_server(server.options, f".{os.getpid()}"):
            server.process.run(self.engine, self._serve())

    async def _serve(self) -> None:
        # Until then a SIGTERM ends it at once: it serves nobody yet.
        server = self.server
        await server.start()
        with server.signals((signal.SIGTERM,)):
            try:
                threading.Thread(target=self._obey, name="control", daemon=True).start()
            except RuntimeError as error:  # there is no room for another
                raise StartError(f"can't start the thread of its supervisor: {error}") from None
            await server.enter()
            if not server.ending:
                self._control.send(ready=True)
            await server.serve_entered()

    def _obey(self) -> None:
        """Do what the supervisor says. When it is gone, drain: nothing restarts this worker."""
        leave_signals_to_the_main_thread()
        for message in self._control.messages():
            try:
                self._do(message)
            except Exception:  # noqa: BLE001
                # The next message may be that the server is to drain.
                _log.exception("what the supervisor said failed: %s", message.get("do"))
        self._do({"do": "end"})

    def _do(self, message: dict[str, Any]) -> None:
        server, engine = self.server, self.engine
        match message:
            case {"do": "end"}:
                # All workers end: no other would serve the backlog.
                engine.call_from_thread(server.traffic.serve_backlog)
                engine.call_from_thread(self._end)
            case {"do": "retire"}:
                engine.call_from_thread(lambda: engine.spawn_background(server.retire(), "retire"))
            case {"do": "pause"}:
                server.pause()
            case {"do": "resume"}:
                server.resume()
            case {"do": "udp", "udp_rate": rate, "udp_total_rate": total_rate}:
                server.traffic.set_udp_rates(rate, total_rate)
            case {"do": "room"}:
                engine.call_from_thread(server.traffic.notify)
            case {"do": "figures", "id": number} if self._figures is not None:
                self._control.send(answer=number, value=self._figures.snapshot())
            case {"do": "connections", "id": number, "most": most} if self._figures is not None:
                self._control.send(answer=number, value=self._figures.connections(most))
            case {"do": "live", "id": number, "query": query} if self._figures is not None:
                from anysock.admin.query import LiveQuery

                live = self._figures.live(LiveQuery(**query))
                self._control.send(answer=number, value=live)
            case {"do": "abort", "id": number, "connection": name} if self._figures is not None:
                self._control.send(answer=number, value=self._figures.end(name))

    def _end(self) -> None:
        try:
            self.engine.spawn_background(self.server.end(), "drain")
        except OSError:
            # Clients have all threads that there may be; one is kept in reserve, for a signal.
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def last_figures(self) -> Snapshot | None:
        """Its figures, which still count once it has ended."""
        return None if self._figures is None else self._figures.snapshot()


def _unpickled(data: bytes) -> Any:
    """Unpickle; a handler that can't be found here is an error of the user."""
    try:
        return pickle.loads(data)
    except (AttributeError, ImportError) as error:
        raise UsageError(f"a worker can't find the handler or its lifespan: {error}") from None


def _take_the_place_of(module: str | None, path: str | None) -> None:
    """Run the program once more, as multiprocessing does, with another ``__name__``: then its
    definitions are here, and its code under ``if __name__ == "__main__"`` does not run."""
    name = "__mp_main__"
    found = (
        runpy.run_module(module, run_name=name, alter_sys=True)
        if module
        else runpy.run_path(str(path), run_name=name)
    )
    main = types.ModuleType(name)
    main.__dict__.update(found)
    sys.modules["__main__"] = sys.modules[name] = main


def main() -> None:
    open_standard_descriptors()
    # A Ctrl-C goes to all processes of the terminal; the supervisor tells us what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    control = ToSupervisor(socket.socket(fileno=int(sys.argv[1])))
    code = 0
    try:
        worker = Worker(control, control.receive_job())
        try:
            worker.run()
        finally:
            control.send(drained=worker.server.aborted, figures=worker.last_figures)
    except EOFError:
        code = 1  # the supervisor was gone before it had told us anything
    except AnysockError as error:
        control.send(failed=str(error), code=2 if isinstance(error, UsageError) else 1)
        code = 1
    flush_log()
    with contextlib.suppress(OSError):
        control.sock.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
