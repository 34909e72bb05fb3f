"""`serve`: a server, from its start to its end, in this process or in several."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from contextlib import AbstractContextManager
from typing import Any, Unpack

from anysock.engines import make_engine
from anysock.engines.base import Engine
from anysock.engines.current import running_engine
from anysock.engines.own_loop import watch_steps
from anysock.engines.posix.signals import is_ignored
from anysock.errors import UsageError
from anysock.handlers import Handler
from anysock.handlers.checking import checked
from anysock.machine.process import end_by_sigterm, open_standard_descriptors
from anysock.net.addresses import Address
from anysock.options.keywords import ServeKeywords, options_of
from anysock.options.serve import ServeOptions
from anysock.server import lifespan as lifespans
from anysock.server.server import Lifespan, Server
from anysock.streams.running import State_co
from anysock.systemd import Notifier, NotifyEvents, WatchdogEvents
from anysock.telemetry.events import EventGroup, Events, check_events
from anysock.telemetry.logs import configure_logging, flush_log, has_handlers
from anysock.traces.tracing import traced_server

_log = logging.getLogger("anysock")


def serve(
    handler: Handler[State_co] | str,
    options: ServeOptions | None = None,
    *,
    lifespan: Lifespan[State_co] | str | None = None,
    events: Events | None = None,
    **keywords: Unpack[ServeKeywords],
) -> int:
    """Run a server until SIGINT or SIGTERM has drained it. Takes what `Server` takes.

    Returns how many connections had to be aborted: 0 when all came to their end. If a second after
    the drain's deadline a handler, or a task that one has spawned, has not ended though it was
    cancelled, the log names it, and the process exits with code 1, whatever else the program had to
    do. Where the program
    has configured no logging, this does, with the options `log_level`, `log_format` and `log_time`.

    With the option `workers` above 1, processes of their own serve, and this one supervises them.
    Then `handler` and `lifespan` must be something that they can import, and each worker runs the
    lifespan; and a program that calls this does so under ``if __name__ == "__main__":``, as with
    multiprocessing.

    The option `engine` takes the name of one, or an engine that was made for this: see `run`.

    Raises `UsageError` and `StartError`, whose messages say what to do (also where an engine runs
    already: there, `Server` is what serves), `LifespanFailed` when the lifespan does not end well,
    and OSError when a listening socket breaks while the server runs.

    >>> async def shout(connection):
    ...     async for line in connection.lines():
    ...         await connection.send_all(line.upper())
    >>> serve(shout, bind="127.0.0.1:8000")  # doctest: +SKIP
    """
    if running_engine() is not None:
        raise UsageError(
            "serve() is for a program that is the server, and an engine runs here already: use "
            "`async with anysock.Server(...)` inside of it"
        )
    options = options_of(options, keywords)
    # Before anything is changed, and before workers are started.
    check_events(events)
    if not isinstance(handler, str):
        checked(handler)
    if lifespan is not None and not isinstance(lifespan, str):
        lifespans.prepare(lifespan, handler)
    if not has_handlers():
        configure_logging(options.log_level, options.log_format, options.log_time)
    open_standard_descriptors()
    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread:
        end_by_sigterm()
        _warn_of_ignored_sigterm()
    try:
        return _serve(handler, lifespan, options, events, on_main_thread)
    finally:
        flush_log()  # before the caller says more, such as why it has failed


def _serve(
    handler: Handler[Any] | str,
    lifespan: Lifespan[Any] | str | None,
    options: ServeOptions,
    events: Events | None,
    on_main_thread: bool,
) -> int:
    if options.workers > 1:
        from anysock.workers.supervisor import Supervisor

        return Supervisor(handler, options, events, lifespan).run()
    server: Server[Any] = Server(handler, options, lifespan=lifespan, events=events)
    notifier = Notifier()
    if notifier.anybody:
        server.events = EventGroup(server.events, NotifyEvents(notifier), WatchdogEvents(notifier))
    # The endpoint before the engine, which has descriptors to be closed.
    with contextlib.closing(notifier), traced_server(server.options), _admin(server):
        engine: Engine = make_engine(server.options.engine)
        if server.options.slow_step:
            watch_steps(engine, server.options.slow_step)
        if on_main_thread:
            server.process.run(engine, server.serve_until_signal())
        else:
            engine.run(server.serve_forever())
    return server.aborted


def _warn_of_ignored_sigterm() -> None:
    """Without this, a process that SIGTERM does not end would be a riddle."""
    if is_ignored(signal.SIGTERM):
        others = "SIGKILL" if is_ignored(signal.SIGINT) else "SIGINT"
        _log.warning(
            "SIGTERM is ignored, as it was when this process was started; %s ends it", others
        )


def _admin(server: Server) -> AbstractContextManager[object]:
    """The admin endpoint of `server`, if it is to have one."""
    address = server.options.admin
    if address is None:
        return contextlib.nullcontext()
    from anysock.admin import AdminEndpoint, ServerFigures

    assert isinstance(address, Address)  # the options have parsed it
    return AdminEndpoint(address, ServerFigures(server), write=server.options.admin_write)
