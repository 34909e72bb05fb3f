"""The lifespan of a program that is the server: its exit code, its signals, its workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import prepared
from tests.harness import (
    CONCURRENT_ENGINES,
    ENGINES,
    STRICT,
    ServerProcess,
    receive_exactly,
    sleeps,
    wait_until,
)

# One engine for each way to run tasks: where it is a thread beside them that ends the process.
OF_A_KIND = ("blocking", "selector", "asyncio", "trio")

PROGRAM = """
import contextlib, os, sys, time
import anysock

NOTES = os.environ["NOTES"]


def note(text):
    with open(NOTES, "a") as notes:
        print(text, file=notes)


async def ticks():
    try:
        while True:
            await anysock.sleep(0.01)
    finally:
        note("the task ends")


@contextlib.asynccontextmanager
async def lifespan(server):
    note("begins")
    server.spawn(ticks())
    yield "state"
    note("ends")


@contextlib.asynccontextmanager
async def fails_at_its_start(server):
    raise ConnectionRefusedError(111, "Connection refused")
    yield


@contextlib.asynccontextmanager
async def fails_at_its_end(server):
    yield
    raise ValueError("not written")


@contextlib.asynccontextmanager
async def takes_for_ever(server):
    note("begins")
    try:
        await anysock.sleep(600)
        yield
    finally:
        note("is given up")


@contextlib.asynccontextmanager
async def blocks(server):
    note("begins")
    time.sleep(600)
    yield


@contextlib.asynccontextmanager
async def never_ends(server):
    yield
    note("ends")
    await anysock.sleep(600)


async def handler(connection):
    async for line in connection.lines():
        if line == b"end\\n":
            connection.server.request_end()
        connection.log.info("says %r", line)
        await connection.send_all(connection.state.encode() + b" " + line)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(PROGRAM)
    return tmp_path


def line_of(code: str) -> int:
    return PROGRAM[: PROGRAM.index(code)].count("\n") + 1


def notes(folder: Path) -> list[str]:
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def server(folder: Path, engine: str, *options: str, **more) -> ServerProcess:
    environment = {"NOTES": str(folder / "notes")}
    return ServerProcess(
        "app:handler", *options, engine=engine, cwd=folder, environment=environment, **more
    )


def begun(folder: Path, engine: str, lifespan: str, *options: str) -> subprocess.Popen[str]:
    """The command, whose server does not come as far as to listen."""
    return prepared.Popen(
        [
            *(sys.executable, *STRICT, "-m", "anysock", "serve", "app:handler"),
            *("--bind", "127.0.0.1:0", "--engine", engine, "--lifespan", f"app:{lifespan}"),
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"NOTES": str(folder / "notes"), "PATH": ""},
    )


def test_from_its_start_to_its_end(engine, folder):
    running = server(folder, engine, "--lifespan", "app:lifespan", "--log-format", "text")
    with running.connect() as client:
        client.sendall(b"hello\n")
        assert receive_exactly(client, 12) == b"state hello\n"
        assert notes(folder) == ["begins"]
        running.signal()
        assert client.recv(1) == b"", "the connection was drained"
    assert running.wait() == 0
    running.check()
    assert notes(folder) == ["begins", "the task ends", "ends"]
    (line,) = running.matching(r"says b'hello")
    assert f"[{running.pid}-" in line.string


def test_the_log_as_json_has_the_id_of_a_connection(folder):
    running = server(folder, "selector", "--lifespan", "app:lifespan", "--log-format", "json")
    assert running.ask(b"hello\n") == b"state hello\n"
    running.check()
    of_handler, access = [
        json.loads(line) for line in running.lines if '"connection"' in line and "got a" not in line
    ]
    assert of_handler["connection"] == access["connection"]
    assert of_handler["peer"] == access["peer"]
    assert of_handler["logger"] == "anysock.handler"


@pytest.mark.parametrize("engine", OF_A_KIND)
def test_a_handler_ends_the_server(engine, folder):
    running = server(folder, engine, "--lifespan", "app:lifespan")
    assert running.ask(b"end\n") == b"state end\n"
    assert running.wait() == 0
    running.check()
    assert notes(folder) == ["begins", "the task ends", "ends"]


@pytest.mark.parametrize("engine", OF_A_KIND)
def test_a_start_that_fails_is_one_line_and_exit_code_1(engine, folder):
    with begun(folder, engine, "fails_at_its_start") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == (
        "anysock: the lifespan failed at its start: ConnectionRefusedError: [Errno 111] Connection "
        f"refused (app.py:{line_of('raise ConnectionRefusedError')})\n"
    )


@pytest.mark.parametrize("engine", OF_A_KIND)
def test_an_end_that_fails_is_one_line_and_exit_code_1(engine, folder):
    running = server(folder, engine, "--lifespan", "app:fails_at_its_end", expected_code=1)
    running.check()
    lines = running.matching("ValueError|Traceback")
    (line,) = [each.string for each in lines]
    where = f"(app.py:{line_of('raise ValueError')})"
    assert line == f"anysock: the lifespan failed at its end: ValueError: not written {where}"


@pytest.mark.parametrize(
    ("engine", "signum"),
    [*((engine, signal.SIGTERM) for engine in ENGINES), *((e, signal.SIGINT) for e in OF_A_KIND)],
)
def test_a_signal_while_it_starts_ends_the_server_at_once(engine, folder, signum):
    with begun(folder, engine, "takes_for_ever", "--drain-timeout", "60") as process:
        wait_until(lambda: notes(folder) == ["begins"], "it begins")
        process.send_signal(signum)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert notes(folder) == ["begins", "is given up"]


@pytest.mark.parametrize("engine", OF_A_KIND)
def test_a_start_that_lets_nobody_run_is_ended_too(engine, folder):
    with begun(folder, engine, "blocks", "--drain-timeout", "60", "--slow-step", "0") as process:
        try:
            wait_until(lambda: notes(folder) == ["begins"], "it begins")
            # CPython tells nobody of a signal that comes when it is about to call the system: it
            # would be heard after the 600 seconds. (One that interrupts the call is heard at once.)
            wait_until(lambda: sleeps(process.pid), "it sleeps")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "SIGTERM while the server starts" in said


@pytest.mark.parametrize("engine", OF_A_KIND)
def test_an_end_that_does_not_come_is_named_and_the_process_ends(engine, folder):
    running = server(
        folder, engine, *("--lifespan", "app:never_ends", "--drain-timeout", "0.2"), expected_code=1
    )
    running.expected_errors.append("the end of the lifespan did not end, though told to")
    running.check()
    assert notes(folder) == ["ends"]


# -- with workers --------------------------------------------------------------------------------


def test_each_worker_has_one(folder):
    running = server(folder, "selector", "--workers", "2", "--lifespan", "app:lifespan")
    assert running.ask(b"hello\n") == b"state hello\n"
    running.signal()
    assert running.wait() == 0
    running.check()
    assert sorted(notes(folder)) == ["begins"] * 2 + ["ends"] * 2 + ["the task ends"] * 2


@pytest.mark.parametrize("engine", CONCURRENT_ENGINES[:2])
def test_a_handler_of_a_worker_ends_all_of_them(engine, folder):
    running = server(folder, engine, "--workers", "2", "--lifespan", "app:lifespan")
    assert running.ask(b"end\n") == b"state end\n"
    assert running.wait() == 0
    running.check()
    assert notes(folder).count("ends") == 2


def test_workers_whose_start_fails_are_one_line_and_exit_code_1(folder):
    with begun(folder, "selector", "fails_at_its_start", "--workers", "2") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("anysock: the lifespan failed at its start: Conn")


def test_workers_whose_end_fails_are_told_and_exit_code_1(folder):
    options = ("--workers", "2", "--lifespan", "app:fails_at_its_end")
    running = server(folder, "selector", *options, expected_code=1)
    running.signal()
    running.expected_errors.append("ended with code 1: the lifespan failed at its end: ValueError")
    assert running.wait() == 1
    running.check()
    assert running.lines[-2].startswith("anysock: the lifespan failed at its end: ValueError: not")
