"""A log that nobody reads, or that can't be written, never stops the server; nor its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prepared
from tests.harness import (
    PATIENCE,
    cases_by_engine,
    connect_to,
    free_port,
    listens,
    receive_exactly,
    wait_until,
)

CLIENTS = 50

# Each line of the log is longer than what it tells of: a pipe is full after some of them.
CHATTY = ("--log-level", "debug", "--verbose")


def fill(fd: int) -> None:
    """Leave no room in a pipe."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x")
    os.set_blocking(fd, True)


@contextlib.contextmanager
def stderr_of_kind(kind: str) -> Iterator[int | None]:
    """A standard error that takes nothing; None: it is closed."""
    if kind == "closed":
        yield None
        return
    if kind == "/dev/full":
        fd = os.open("/dev/full", os.O_WRONLY)
        yield fd
        os.close(fd)
        return
    reader, writer = os.pipe()
    if kind == "full":
        fill(writer)
    elif kind == "broken":
        os.close(reader)
    yield writer
    os.close(writer)
    if kind == "full":
        os.close(reader)


@contextlib.contextmanager
def started(
    engine: str,
    address: str,
    stderr: int | None,
    *options: str,
    handler: str = "echo",
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "anysock", "serve", handler, "-e", engine, "-b", address]
    command += options
    if stderr is None:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    process = prepared.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, cwd=cwd
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(
    engine: str, stderr: int | None, *options: str, handler: str = "echo", cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server whose log is not read, and its address: it can't tell, so it is asked."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with started(engine, address, stderr, *options, handler=handler, cwd=cwd) as process:
        connect_when_it_listens(address, process).close()
        yield process, address


def connect_when_it_listens(address: str, process: subprocess.Popen[bytes]) -> socket.socket:
    found: list[socket.socket] = []

    def connects() -> bool:
        assert process.poll() is None
        with contextlib.suppress(OSError):
            found.append(connect_to(address))
        return bool(found)

    wait_until(connects, "it listens")
    return found[0]


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), connect_to(address) as client:
        client.sendall(b"hello")
        return receive_exactly(client, 5) == b"hello"
    return False


def test_who_does_not_read_the_log_stops_nobody(concurrent_engine):
    """50 clients go on while a pipe that nobody reads is full, and many more lines than go in."""
    reader, writer = os.pipe()
    with serving(concurrent_engine, writer, *CHATTY) as (process, address):
        os.close(writer)
        clients = [connect_to(address) for _ in range(CLIENTS)]
        for _ in range(40):
            for client in clients:
                client.sendall(b"x" * 256)
            for client in clients:
                assert receive_exactly(client, 256) == b"x" * 256
        # 2,000 chunks, a line of 270 bytes each; and 64 KiB go into a pipe.
        for client in clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    os.close(reader)


KINDS = {kind: kind for kind in ("closed", "full", "broken", "/dev/full")}


@pytest.mark.parametrize(("engine", "kind"), cases_by_engine(KINDS, "full"))
def test_served_drained_and_exit_code_0_whatever_standard_error_is(engine, kind):
    with stderr_of_kind(kind) as stderr, serving(engine, stderr) as (process, address):
        assert answers(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


SLEEPER = """
import anysock
async def handler(connection):
    await connection.send_all(await connection.recv())
    await anysock.sleep(600)
"""


@pytest.mark.parametrize(("engine", "kind"), cases_by_engine(KINDS, "full"))
def test_a_second_signal_ends_at_once_whatever_standard_error_is(engine, kind, tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    address = f"tcp://127.0.0.1:{free_port()}"
    with (
        stderr_of_kind(kind) as stderr,
        started(
            engine,
            address,
            stderr,
            "--drain-timeout",
            "60",
            handler="sleeper:handler",
            cwd=tmp_path,
        ) as process,
        connect_when_it_listens(address, process) as client,
    ):
        client.sendall(b"x")
        assert receive_exactly(client, 1) == b"x"
        process.send_signal(signal.SIGTERM)
        port = int(address.rpartition(":")[2])
        wait_until(lambda: not listens(port), "it drains")
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 1
        assert time.monotonic() - began < 30  # and not --drain-timeout


TALKER = """
async def handler(connection):
    import logging
    log = logging.getLogger("anysock.mine")
    async for data in connection:
        for number in range(5000):
            log.info("line %d of 5000", number)
        await connection.send_all(data)
"""


def test_a_normal_end_loses_no_line_though_its_reader_is_slow(concurrent_engine, tmp_path):
    (tmp_path / "talker.py").write_text(TALKER)
    reader, writer = os.pipe()
    # Without a word on the handler, which holds up the loop with its 5000 lines.
    options = ("--log-level", "debug", "--slow-step", "0")
    with serving(concurrent_engine, writer, *options, handler="talker:handler", cwd=tmp_path) as (
        process,
        address,
    ):
        os.close(writer)
        with connect_to(address) as client:
            client.sendall(b"x")
            assert receive_exactly(client, 1) == b"x"
        process.send_signal(signal.SIGTERM)
        # Only now is it read: all but a pipe full of it has waited in the server.
        with os.fdopen(reader, "rb") as log:
            lines = log.read().decode().splitlines()
        assert process.wait(PATIENCE) == 0
    numbers = [int(found[1]) for line in lines if (found := re.match(r"line (\d+) of", line))]
    each = list(range(5000))
    assert numbers == each * (len(numbers) // 5000)
    assert numbers
    assert re.match("drained in", lines[-1])


def test_what_was_dropped_is_counted_and_told_in_its_place():
    """A pipe of 64 KiB, the writer's own 4 MiB, and then nothing more; until somebody reads."""
    program = """
import logging, sys
from anysock.telemetry.logs import configure_logging
configure_logging("debug", "text", with_time=False)
log = logging.getLogger("anysock")
for number in range(12000):
    log.info("%05d %s", number, "x" * 1000)
print("said", flush=True)
sys.stdin.readline()
log.info("%05d", 12000)
"""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        # Nobody has read a word, and it has said all that it has to say.
        assert process.stdout.readline() == "said\n"
        lines = []
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if "could not be written" in line:
                process.stdin.write("go on\n")
                process.stdin.flush()
    assert process.wait(PATIENCE) == 0
    told = [int(line[:5]) for line in lines if re.match(r"\d{5}", line)]
    [place] = [index for index, line in enumerate(lines) if "could not be written" in line]
    lost = re.match(r"warning: (\d+) lines of the log .* are lost", lines[place])
    assert lost
    # All before the gap, then the word of it, and what could be told again.
    assert told[:place] == list(range(place))
    assert len(told) + int(lost[1]) == 12001
    assert told[-1] == 12000
