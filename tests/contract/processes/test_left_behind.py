"""A handler that does not end when it is told to keeps no process: one deadline is for all."""

from __future__ import annotations

import contextlib
import re
import signal
import time

import pytest

import anysock
from anysock import CloseReason, Server
from tests.contract.in_process.test_endings import client_of, until
from tests.harness import PATIENCE, receive_all, receive_exactly
from tests.told import Told

SWALLOWING = """
import time
import anysock


async def handler(connection):
    kind = (await connection.recv_line()).strip().decode()
    await connection.send_all(b"begun\\n")
    await anysock.sleep(0.001)  # what is sent may be handed over at the end of a turn
    match kind:
        case "sleeps":
            while True:
                try:
                    await anysock.sleep(3600)
                except BaseException:
                    pass
        case "receives":
            while True:
                try:
                    if not await connection.recv():
                        await anysock.sleep(0.01)
                except BaseException:
                    pass
                try:  # a cancellation that comes here is swallowed, too
                    await anysock.sleep(0.01)
                except BaseException:
                    pass
        case "holds":
            while True:
                try:
                    while True:
                        time.sleep(0.01)
                except BaseException:
                    pass
        case "spawns":
            anysock.spawn(stays(), name="stays")


async def stays():
    while True:
        try:
            await anysock.sleep(3600)
        except BaseException:
            pass
"""

# How long a drain and the exit may take longer here than they should, on a busy machine.
SLACK = 8.0
DRAIN = 0.5


def left(server, *kinds: str) -> tuple[float, list[int]]:
    """Start such handlers, drain; how long it took to exit, with code 1, and the peers' ports."""
    with contextlib.ExitStack() as stack:
        ports = []
        for kind in kinds:
            client = stack.enter_context(server.connect())
            client.sendall(kind.encode() + b"\n")
            assert receive_exactly(client, 6) == b"begun\n"
            ports.append(client.getsockname()[1])
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 1, server.log
        return time.monotonic() - began, ports


@pytest.mark.parametrize("kinds", [("sleeps", "receives"), ("holds",)], ids="+".join)
def test_who_swallows_its_cancellation_is_named_and_the_process_ends(
    engine, start_server, tmp_path, kinds
):
    if engine == "blocking":
        kinds = kinds[:1]
    (tmp_path / "mine.py").write_text(SWALLOWING)
    server = start_server(
        "mine:handler", "--drain-timeout", f"{DRAIN}s", engine=engine, cwd=tmp_path, expected_code=1
    )
    server.expected_errors += ["aborted", "did not end, though told to", "like this were not told"]
    seconds, ports = left(server, *kinds)
    assert DRAIN <= seconds < DRAIN + 1 + SLACK
    [told] = server.matching("error: (.*) did not end, though told to")
    assert sorted(re.findall(r"127.0.0.1', (\d+)", told[1])) == sorted(map(str, ports))


def test_a_task_that_swallows_its_cancellation_is_named(concurrent_engine, start_server, tmp_path):
    if concurrent_engine == "threads":
        pytest.skip("nobody waits for its threads")
    (tmp_path / "mine.py").write_text(SWALLOWING)
    server = start_server(
        "mine:handler",
        *("--drain-timeout", f"{DRAIN}s"),
        engine=concurrent_engine,
        cwd=tmp_path,
        expected_code=1,
    )
    # Its connection is being closed, and its client has not ended its own side by the deadline.
    server.expected_errors += ["did not end, though told to", "aborted"]
    seconds, _ = left(server, "spawns")
    assert seconds < DRAIN + 1 + SLACK
    assert server.matching("error: the task 'stays' did not end, though told to")


def test_with_workers_the_process_ends_too(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(SWALLOWING)
    server = start_server(
        "mine:handler",
        *("--workers", "2", "--drain-timeout", f"{DRAIN}s"),
        engine="asyncio",
        cwd=tmp_path,
        expected_code=1,
    )
    server.expected_errors += ["aborted", "did not end, though told to"]
    seconds, _ = left(server, "sleeps")
    assert seconds < DRAIN + 1 + SLACK
    assert len(server.matching("the handler for .* did not end, though told to")) == 1


# -- in a program that goes on ---------------------------------------------------------------------


def test_in_a_program_the_drain_ends_without_it(concurrent_engine):
    """Its connection is told as aborted, and counted; the handler still runs."""

    async def handler(connection):
        while not free:
            with contextlib.suppress(BaseException):
                await anysock.sleep(0.01)

    free: list[bool] = []

    async def main():
        told = Told()
        server = Server(handler, bind="127.0.0.1:0", events=told, drain_timeout=0.1)
        async with server:
            with client_of(server):
                await until(lambda: server.connections, "it is served")
                began = time.monotonic()
                assert await server.drain() == 1
                assert time.monotonic() - began < 1.1 + SLACK
        assert told.reasons == [CloseReason.ABORTED]
        assert not server.connections
        free.append(True)

    anysock.run(main, engine=concurrent_engine)


# -- a drain that a handler asks for ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["drain", "end", "retire"])
def test_a_handler_that_drains_the_server_does_not_wait_for_itself(engine, how):
    async def handler(connection):
        await connection.recv()
        aborted.append(await getattr(server, how)())
        await connection.send_all(b"bye")

    aborted: list[int] = []
    server = Server(handler, bind="127.0.0.1:0", drain_timeout=PATIENCE, reload_timeout=PATIENCE)

    async def main():
        await server.start()
        with client_of(server) as client:
            client.sendall(b"x")
            began = time.monotonic()
            await server.serve_forever()
            assert time.monotonic() - began < PATIENCE / 2
            assert receive_all(client) == b"bye"

    anysock.run(main, engine=engine)
    assert aborted == [0]
    assert server.aborted == 0
