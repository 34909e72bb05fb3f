"""A server in a simulated network: all that it asks of the world, it asks of its engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import anysock
from anysock.engines.sim.engine import SimEngine

# Audit hooks can't be taken out again (PEP 578), so one serves all tests.
_DOORS = {"_thread.start_new_thread", "os.fork", "subprocess.Popen", "time.sleep"}
_recording = False
_doors: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...], doors: set[str] = _DOORS) -> None:
    # (It is called until the very end of the process, when our names are gone.)
    door = event.startswith("socket.") or event in doors
    # (An import lists folders, too.)
    if _recording and (door or (event == "os.listdir" and arguments == ("/dev/fd",))):
        _doors.append(event)


sys.addaudithook(_hook)


@pytest.fixture
def doors() -> Iterator[list[str]]:
    """The doors to the real machine that are opened while an engine runs."""
    global _recording
    _doors.clear()
    yield _doors
    _recording = False


class Notes(anysock.Events):
    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self.lines: list[tuple[float, str, object]] = []

    def connection_opened(self, connection: anysock.Connection) -> None:
        self.lines.append((self._engine.now(), "opened", connection.peer))

    def connection_closed(self, connection, reason, error) -> None:
        self.lines.append((self._engine.now(), reason.name, connection.bytes_received))


def simulate(world: int, **options: Any) -> list[tuple[float, str, object]]:
    """Twenty clients, each with five messages of its own; some end without a word."""
    engine = SimEngine(world)
    notes = Notes(engine)
    random = engine.network.chance.stream("clients")

    async def client(address: str, number: int) -> None:
        await anysock.sleep(random.uniform(0, 20))
        async with await anysock.connect(address) as connection:
            for message in range(5):
                await anysock.sleep(random.uniform(0, 3))
                await connection.send_all(b"%d %d\n" % (number, message))
                assert await connection.recv_line() == b"%d %d\n" % (number, message)
            if number % 5 == 0:
                connection.abort()

    async def main() -> None:
        global _recording
        _recording = True
        async with anysock.Server("echo", bind="127.0.0.1:80", events=notes, **options) as server:
            async with anysock.task_group() as group:
                for number in range(20):
                    group.spawn(client(server.addresses[0], number))
        _recording = False

    anysock.run(main, engine=engine)
    return notes.lines


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_connections": 3, "accept_rate": 2, "idle_timeout": 30},
        {"delay": 0.1, "jitter": 0.05, "seed": 7},
    ],
    ids=["plain", "limits", "faults"],
)
def test_a_server_runs_in_a_simulated_network_and_can_be_repeated(doors, options):
    began = time.monotonic()
    lines = simulate(1, **options)
    assert time.monotonic() - began < 10
    assert doors == []
    assert lines[-1][0] > 20, "seconds on the simulated clock"
    ends = [what for _, what, _ in lines if what != "opened"]
    assert len(ends) == 20
    assert ends.count("LOST") == 4
    assert simulate(1, **options) == lines
    assert simulate(2, **options) != lines
