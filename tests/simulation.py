"""The engine `sim`, for tests of what is about time and order: its clock jumps.

`run_exactly` runs a coroutine on one host. `simulate` runs a scenario in a `sim.World`, and
`serving` is the real server in it, with the same look at its end as a server that is a process.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import anysock
from anysock import Connection, sim
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network
from anysock.telemetry.events import EventGroup
from anysock.telemetry.logs import LogEvents
from anysock.telemetry.logs.output import TextFormatter
from tests.told import Told

T = TypeVar("T")


# -- one host -------------------------------------------------------------------------------------


def exact_engine() -> SimEngine:
    """An engine on one host, by whose clock 0.1 s are 0.1 s, to the last digit."""
    network = Network()
    network.look_seconds = 0.0
    return SimEngine(host=Host(network, "localhost"))


def run_exactly(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, which runs on an `exact_engine`."""
    result: T = exact_engine().run(main)
    return result


# -- several hosts --------------------------------------------------------------------------------


def simulate(scenario: Callable[[sim.World], Coroutine[Any, Any, T]], *, seed: int = 0) -> T:
    """Run ``scenario(world)`` in a network that does nothing wrong, and return its result."""
    return sim.World(seed, faults="none").run(scenario, until=3600)


class Serving:
    """A server on the host ``server``, and all that was told of it.

    Its clients are on the host of the scenario, or, with an address of their own each, on others.
    """

    def __init__(self, world: sim.World, handler: Any, options: dict[str, Any]) -> None:
        self.world = world
        self.told = Told()
        #: The lines of its log, as a terminal shows them.
        self.log: list[str] = []
        #: Those of a peer that are not for debugging only.
        self.news: list[str] = []
        #: Patterns of ERROR and WARNING lines that the test has asked for.
        self.expected_errors: list[str] = []
        self.expected_code = 0
        self.host = world.host("server")
        events = EventGroup(self.told, LogEvents())
        options = {"bind": "tcp://:7", **options}
        self.server = self.host.serve(handler, events=events, **options)
        self._task = self.host.tasks[-1]

    async def connect(self, host: str | None = None, **options: Any) -> Connection:
        """A connection to it, from the host of the scenario or from another."""
        # By its address: to look up a name takes its time.
        connecting = anysock.connect(f"{self.host.host.addresses[0]}:7", **options)
        if host is None:
            return await connecting
        return await self.world.host(host).spawn(connecting).join()

    def descriptors(self) -> int:
        """How many descriptors its host has open."""
        return len(self.host.host.sockets)

    def matching(self, pattern: str) -> list[re.Match[str]]:
        return [match for line in self.log if (match := re.search(pattern, line))]

    def line(self, pattern: str) -> re.Match[str]:
        """The only line of the log that matches `pattern`."""
        [match] = self.matching(pattern)
        return match

    async def until(self, condition: Callable[[], object], what: str, within: float = 60) -> None:
        """Let time pass until `condition` holds. How late that is noticed: a millisecond, or one
        percent of the time that it took."""
        began = self.world.now
        while not condition():
            passed = self.world.now - began
            assert passed < within, f"not within {within:g} s: {what}"
            await self.world.sleep(max(0.001, passed / 100))

    async def until_closed(self, number: int = 1) -> None:
        """Until so many connections have ended."""
        await self.until(lambda: len(self.told.reasons) >= number, f"{number} have ended", 3000)

    def signal(self, signum: int = signal.SIGTERM) -> None:
        self.host.signal(signum)

    def failures(self) -> list[BaseException]:
        """What handlers have raised; it was expected, and does not make the test fail."""
        found = list(self.server.failures)
        self.server.failures.clear()
        self.expected_errors += ["the handler failed", "Traceback"]
        return found

    async def ask(self, data: bytes) -> bytes:
        """Send `data` on a connection of its own, half-close, and return all that comes back."""
        async with await self.connect() as client:
            await client.send_all(data)
            await client.send_eof()
            return await receive_all(client)

    async def ended(self) -> int:
        """Wait until the server has ended, and return what its process would exit with."""
        await self._task.join()
        return 1 if self.server.aborted else 0


async def receive_all(client: Connection) -> bytes:
    received = bytearray()
    while data := await client.recv():
        received += data
    return bytes(received)


async def send(client: Connection, data: bytes) -> None:
    """To be spawned: what `Connection.send_all` gives is no coroutine."""
    await client.send_all(data)


async def greeted(running: Serving, count: int = 1) -> list[Connection]:
    """So many clients that were answered."""
    clients = [await running.connect() for _ in range(count)]
    for client in clients:
        await client.send_all(b"hello")
        assert await client.recv_exactly(5) == b"hello"
    return clients


async def talk(client: Connection, every: float = 0.02) -> None:
    """All the time, until the connection ends."""
    with contextlib.suppress(ConnectionError, anysock.EndOfStream):
        while True:
            await client.send_all(b"x")
            await client.recv_exactly(1)
            await anysock.sleep(every)


class _Lines(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self, running: Serving) -> None:
        super().__init__()
        self._running = running
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        lines = self.format(record).split("\n")
        self._running.log += lines
        if record.levelno > logging.DEBUG and hasattr(record, "peer"):
            self._running.news += lines


@contextlib.asynccontextmanager
async def serving(
    world: sim.World, handler: Any = "echo", **options: Any
) -> AsyncIterator[Serving]:
    """A `Serving` that listens. At its end it is told to end, unless it was, and looked at: nothing
    is left behind, and nothing is in its log that was not asked for."""
    running = Serving(world, handler, options)
    lines = _Lines(running)
    log = logging.getLogger("anysock")
    before = log.level
    log.addHandler(lines)
    log.setLevel(logging.DEBUG)
    try:
        await running.until(lambda: running.told.of("listening"), "it listens")
        base = running.descriptors()
        yield running
        if not running.server.ending:
            await running.until(lambda: running.descriptors() <= base, "nothing is left of clients")
            running.signal()
        code = await running.ended()
    finally:
        log.removeHandler(lines)
        log.setLevel(before)
    text = "\n".join(running.log)
    assert code == running.expected_code, f"exit code {code}\n{text}"
    unexpected = [
        line
        for line in running.log
        if re.search("^(error|warning|critical)|Traceback", line)
        and not any(re.search(pattern, line) for pattern in running.expected_errors)
    ]
    assert not unexpected, f"not asked for: {unexpected}\n{text}"
