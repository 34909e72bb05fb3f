"""A server for a test: on a thread of its own, under any engine, and what it leaves is named."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import traceback
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Generic, Unpack

from anysock.engines.engine_thread import EngineThread
from anysock.errors import LifespanFailed, StartError, UsageError
from anysock.handlers import Handler
from anysock.machine.descriptors import describe_descriptor, open_descriptors
from anysock.net.printable import printable
from anysock.options.keywords import ServeKeywords, options_of
from anysock.server.ending import CLEAN_UP_SECONDS
from anysock.server.server import OUR_TASKS, Lifespan, Server
from anysock.streams.connection import Connection
from anysock.streams.running import State_co
from anysock.tasks.connecting import connect
from anysock.tasks.runtime import run, timeout
from anysock.telemetry.events import CloseReason, EventGroup, Events
from anysock.telemetry.logs import LogEvents

#: How long handlers have to end when a server for a test drains, where the option `drain_timeout`
#: does not say otherwise, in seconds.
DRAIN_SECONDS = 2.0

#: How long its start may take, in seconds.
START_SECONDS = 60.0

#: How long `assert_nothing_left` waits for what is about to end, in seconds.
SETTLE_SECONDS = 2.0

#: What can be left.
KINDS = ("connections", "failures", "tasks", "descriptors")

# How long an answer of a loop may take that nothing holds up, on a machine that is busy.
_PATIENCE = 15.0
_THREAD = "anysock.testing"


class _Notes(Events):
    """What handlers have done that a test wants to know."""

    def __init__(self) -> None:
        self.listens: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.failures: list[BaseException] = []
        self.aborted: list[str] = []

    def listening(self, addresses: Sequence[str], engine: str) -> None:
        self.listens.set_result(None)

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        self.failures.append(error)

    def connection_closed(
        self, connection: Connection, reason: CloseReason, error: BaseException | None
    ) -> None:
        if reason is CloseReason.ABORTED and connection.draining:
            self.aborted.append(_handler_of(connection))


class ServerThread(Generic[State_co]):
    """A server on a loopback port, on a thread of its own: what `serving` and the fixture
    `anysock_server` give. A test may block, or run any loop, meanwhile."""

    def __init__(
        self,
        handler: Handler[State_co] | str,
        *,
        lifespan: Lifespan[State_co] | str | None = None,
        may_leave: Collection[str] = (),
        events: Events | None = None,
        **options: Unpack[ServeKeywords],
    ) -> None:
        for kind in may_leave:
            if kind not in KINDS:
                raise UsageError(f"may_leave={kind!r}: choose of {', '.join(KINDS)}")
        options.setdefault("bind", "127.0.0.1:0")
        options.setdefault("drain_timeout", DRAIN_SECONDS)
        self.may_leave = may_leave
        self._notes = _Notes()
        chosen = options_of(None, options)
        log = events or LogEvents.of(chosen)
        events = EventGroup(self._notes, log)
        self._server: Server[State_co] = Server(handler, chosen, lifespan=lifespan, events=events)
        if isinstance(chosen.engine, str):
            _used_once(chosen.engine)
        self._before = open_descriptors()
        self._thread = EngineThread(_THREAD, chosen.engine)
        self._serving: concurrent.futures.Future[None] | None = None
        self._stopped = False
        # What was seen when it stopped.
        self._tasks_left: list[str] = []
        self._ends: list[str] = []

    def start(self) -> None:
        """Listen and serve. Raises what `Server.serve_forever` raises when it can't; a `StartError`
        when its lifespan takes more than `START_SECONDS`."""
        self._thread.start()
        self._serving = self._thread.begin(self._server.serve_forever)
        both = (self._notes.listens, self._serving)
        concurrent.futures.wait(both, START_SECONDS, concurrent.futures.FIRST_COMPLETED)
        if not (self._notes.listens.done() or self._serving.done()):
            raise StartError(
                f"the server has not started within {START_SECONDS:g} seconds; its thread is at\n"
                f"{self._thread.stack()}"
            )
        if self._serving.done():
            self._stopped = True
            self._thread.stop()
            self._serving.result()

    @property
    def address(self) -> str:
        """Where it listens, as `anysock.connect` takes it: ``"tcp://127.0.0.1:54321"``."""
        return self._server.addresses[0]

    @property
    def host(self) -> str:
        """The host of `address`."""
        return self.address.partition("://")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `address`."""
        return int(self.address.rpartition(":")[2])

    @property
    def server(self) -> Server[State_co]:
        """The `Server` itself, to be looked at: its `counters`, its `connections`, its `state`. It
        runs on another thread, so that nothing of it may be called here."""
        return self._server

    @property
    def failures(self) -> list[BaseException]:
        """What handlers and the lifespan have raised, the oldest first. A test that expects one
        takes it out, as by ``server.failures.pop()``: what is left here makes it fail."""
        return self._notes.failures

    def ask(self, data: bytes, seconds: float = 10.0) -> bytes:
        """As a client of its own, send `data`, end the stream, and return all that comes back.
        Raises TimeoutError when that takes longer than `seconds`. For tests that are not async."""

        async def client() -> bytes:
            async with timeout(seconds), await connect(self.address) as connection:
                await connection.send_all(data)
                await connection.send_eof()
                return b"".join([chunk async for chunk in connection])

        return run(client)

    def stop(self) -> None:
        """Drain the server, and end its thread. Safe to call again."""
        if self._stopped or self._serving is None:
            return
        self._stopped = True
        seconds = self._server.options.drain_timeout + CLEAN_UP_SECONDS + _PATIENCE
        try:
            self._thread.run(self._server.drain, seconds)
            self._serving.result(seconds)
            self._tasks_left = self._thread.run(self._until_no_task_is_left, _PATIENCE)
        except concurrent.futures.TimeoutError:
            self._ends.append(f"the loop is held up:\n{self._thread.stack()}")
        except LifespanFailed as failure:
            self.failures.append(failure)
        for error in self.failures:
            # What the frames of the handler have open is not kept open by this.
            traceback.clear_frames(error.__traceback__)
        if not self._thread.stop() and not self._ends:
            self._ends.append(f"the thread of the server does not end:\n{self._thread.stack()}")

    def left(self) -> dict[str, list[str]]:
        """What is left, by its kind: "connections", "failures", "tasks" and "descriptors". While
        the server serves, it has `SETTLE_SECONDS` for what is about to end."""
        if not self._stopped:
            self._tasks_left = self._thread.run(self._until_no_task_is_left, _PATIENCE)
        open_now = [
            f"{_handler_of(each)} has not ended; it {_what_it_does(each)}"
            for each in self._server.connections
        ]
        ended_late = [f"{each} had to be aborted" for each in self._notes.aborted]
        return {
            "connections": [*open_now, *ended_late],
            "failures": [_where(each) for each in self.failures],
            "tasks": [*(f"{name!r}" for name in self._tasks_left), *self._ends],
            "descriptors": self._descriptors_left() if self._stopped else [],
        }

    async def _until_no_task_is_left(self) -> list[str]:
        """Wait a moment for the tasks of handlers; return the names of those that are left."""
        engine = self._thread.engine
        end = engine.now() + SETTLE_SECONDS
        while True:
            left = [name for name in engine.living() if not self._is_ours(name)]
            if not (left or self._server.connections) or engine.now() > end:
                return left
            await engine.sleep(0.005)

    def _is_ours(self, name: str) -> bool:
        # A handler's own task is told of as its connection.
        return name in OUR_TASKS or name == _THREAD or name.startswith("client ")

    def _descriptors_left(self) -> list[str]:
        found = self._new_descriptors()
        if found:
            gc.collect()  # what nobody refers to any more is closed by now
            found = self._new_descriptors()
        described = [describe_descriptor(fd, name) for fd, name in sorted(found.items())]
        # A client of the test's, which may stay connected.
        of_client = f"connected to {(self.host, self.port)}"
        return [each for each in described if not each.endswith(of_client)]

    def _new_descriptors(self) -> dict[int, str]:
        return {
            fd: name
            for fd, name in open_descriptors().items()
            if self._before.get(fd) != name and name != "/dev/null"  # libuv keeps one
        }


@contextlib.contextmanager
def serving(
    handler: Handler[State_co] | str,
    *,
    lifespan: Lifespan[State_co] | str | None = None,
    may_leave: Collection[str] = (),
    events: Events | None = None,
    **options: Unpack[ServeKeywords],
) -> Iterator[ServerThread[State_co]]:
    """Within the block, a server runs on a thread of its own, on a free port of 127.0.0.1. When the
    block ends, it is drained, and `assert_nothing_left` looks at it.

    `handler`, `lifespan`, `events` and the options are as for `anysock.Server`, and `engine` is one
    of them; a drain has 2 seconds. What `may_leave` names is not looked for: "connections",
    "failures", "tasks" or "descriptors".

    >>> from anysock.testing import serving
    >>> with serving("echo", engine="threads") as server:
    ...     server.ask(b"hello")
    b'hello'
    """
    server = ServerThread(handler, lifespan=lifespan, may_leave=may_leave, events=events, **options)
    server.start()
    try:
        yield server
    except BaseException:
        server.stop()
        raise
    server.stop()
    assert_nothing_left(server)


def assert_nothing_left(server: ServerThread[Any]) -> None:
    """Raises AssertionError, which names it, if handlers of `server` have left anything behind:

    - connections: whose handler has not ended, though it has had `SETTLE_SECONDS`, or that a drain
      had to abort;
    - failures: what a handler has raised, and the test has not taken out of `server.failures`;
    - tasks that a handler has spawned by `anysock.spawn`, and that have not ended;
    - once the server has stopped, descriptors that were not open before it started, whoever has
      opened them; but no sockets of clients that are still connected to it.
    """
    found = {kind: each for kind, each in server.left().items() if kind not in server.may_leave}
    if not any(found.values()):
        return
    lines = [f"left by the server at {server.address}:"]
    for kind, each in found.items():
        lines += [f"  {kind}: {text}" for text in each]
    raise AssertionError("\n".join(lines))


@functools.cache
def _used_once(engine: str) -> None:
    """Some libraries open something when they are first used, and keep it."""

    thread = EngineThread(_THREAD, engine)
    thread.start()
    thread.stop()


def _where(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if frames := traceback.extract_tb(error.__traceback__):
        text += f" (line {frames[-1].lineno} of {frames[-1].filename})"
    return text


def _handler_of(connection: Connection) -> str:
    return f"the handler for {printable(str(connection.peer))}"


def _what_it_does(connection: Connection) -> str:
    stream = connection.stream
    if stream.receiving:
        return "waits to receive"
    return "waits to send" if stream.sending else "waits for something else, or computes"
