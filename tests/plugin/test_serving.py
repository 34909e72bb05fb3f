"""A server on a thread of its own for a test, and what is said of what it leaves."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

import anysock
from anysock.testing import ServerThread, assert_nothing_left, connection_pair, serving
from tests.harness import CONCURRENT_ENGINES, PATIENCE, SIMULATED, exchange, wait_until

kept: list[socket.socket] = []

every_concurrent_engine = pytest.mark.parametrize(
    "concurrent_engine", [*CONCURRENT_ENGINES, *SIMULATED]
)


async def careless(connection):
    """Does what it is told, and leaves something behind."""
    async for line in connection.lines():
        match line:
            case b"task\n":
                anysock.spawn(anysock.sleep(PATIENCE), name="forgotten")
            case b"socket\n":
                kept.append(socket.create_server(("127.0.0.1", 0)))
            case b"fail\n":
                raise ValueError("on purpose")
            case b"stay\n":
                await connection.send_all(b"staying\n")
                await anysock.sleep(PATIENCE)
        await connection.send_all(line)


@pytest.fixture(autouse=True)
def nothing_is_kept():
    yield
    while kept:
        kept.pop().close()


def test_it_serves_while_the_test_blocks(engine):
    with serving("echo", engine=engine) as server:
        assert server.host == "127.0.0.1"
        with socket.create_connection((server.host, server.port), PATIENCE) as client:
            assert exchange(client, b"hello") == b"hello"
        assert server.ask(b"again") == b"again"
        wait_until(lambda: server.server.counters.closed.total() == 2, "both are closed")
        assert_nothing_left(server)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), PATIENCE)


def test_its_thread_ends(engine):
    before = threading.active_count()
    with serving("echo", engine=engine) as server:
        assert server.ask(b"x") == b"x"
    wait_until(lambda: threading.active_count() <= before + 1, "no thread is left")


def test_a_client_that_stays_connected_is_no_fault(engine):
    """Its handler waits to receive; the drain ends it."""
    with serving("echo", engine=engine) as server:
        client = socket.create_connection((server.host, server.port), PATIENCE)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert client.recv(1) == b""
    client.close()


def test_a_task_that_a_handler_forgets_is_named(concurrent_engine, monkeypatch):
    monkeypatch.setattr("anysock.testing.server.SETTLE_SECONDS", 0.1)
    with pytest.raises(AssertionError, match="tasks: 'forgotten'"):
        with serving(careless, engine=concurrent_engine) as server:
            assert server.ask(b"task\n") == b"task\n"


def test_a_descriptor_that_a_handler_forgets_is_named(engine):
    with pytest.raises(AssertionError) as caught:
        with serving(careless, engine=engine) as server:
            server.ask(b"socket\n")
    [forgotten] = kept
    assert f"descriptors: a socket at {forgotten.getsockname()}" in str(caught.value)


def test_a_handler_that_fails_is_told_of_unless_the_test_expects_it(engine):
    with pytest.raises(AssertionError, match=r"failures: ValueError: on purpose \(line \d+ of"):
        with serving(careless, engine=engine) as server:
            server.ask(b"fail\n")
    with serving(careless, engine=engine) as server:
        server.ask(b"fail\n")
        assert isinstance(server.failures.pop(), ValueError)


def test_a_handler_that_does_not_end_is_named(engine):
    with pytest.raises(AssertionError) as caught:
        with serving(careless, engine=engine, drain_timeout=0.1) as server:
            client = socket.create_connection((server.host, server.port), PATIENCE)
            client.sendall(b"stay\n")
            assert client.recv(100) == b"staying\n"
    name = client.getsockname()
    assert f"connections: the handler for {name} had to be aborted" in str(caught.value)
    client.close()


def test_a_handler_that_has_not_ended_is_named_while_the_server_serves(monkeypatch):
    monkeypatch.setattr("anysock.testing.server.SETTLE_SECONDS", 0.01)
    with serving("echo") as server:
        with socket.create_connection((server.host, server.port), PATIENCE):
            wait_until(lambda: server.server.connections, "it is connected")
            wait_until(lambda: server.server.connections[0].stream.receiving, "it waits")
            with pytest.raises(AssertionError, match="has not ended; it waits to receive"):
                assert_nothing_left(server)


def test_what_a_handler_may_leave_is_left_out():
    with serving(careless, may_leave=["descriptors", "failures"]) as server:
        server.ask(b"socket\nfail\n")
    with pytest.raises(anysock.UsageError, match="choose of"):
        ServerThread("echo", may_leave=["threads"])


def test_a_handler_that_holds_up_the_loop_is_shown(monkeypatch):
    monkeypatch.setattr("anysock.testing.server._PATIENCE", 0.1)
    go_on, began = threading.Event(), threading.Event()

    async def blocking(connection):
        began.set()
        go_on.wait(PATIENCE)

    server = ServerThread(blocking, drain_timeout=0.1)
    server.start()
    with socket.create_connection((server.host, server.port), PATIENCE):
        assert began.wait(PATIENCE)
        monkeypatch.setattr("anysock.engines.engine_thread.STOP_SECONDS", 0.1)
        server.stop()
    with pytest.raises(AssertionError, match=r"the loop is held up:\n[^$]*go_on.wait\(PATIENCE\)"):
        assert_nothing_left(server)
    go_on.set()


def test_what_can_not_start_says_why_and_leaves_no_thread(engine):
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(anysock.StartError, match="in use"):
            with serving("echo", engine=engine, bind=f"127.0.0.1:{taken.getsockname()[1]}"):
                pytest.fail("it has started")
    wait_until(lambda: threading.active_count() <= before + 1, "no thread is left")


# -- the life around a server ----------------------------------------------------------------------


async def count(connection):
    connection.state.append(await connection.recv_line())
    await connection.send_all(b"%d" % len(connection.state))


def test_a_lifespan_gives_the_state(engine):
    @contextlib.asynccontextmanager
    async def lifespan(server):
        yield lines
        lines.append("the end")

    lines: list[Any] = []
    with serving(count, engine=engine, lifespan=lifespan) as server:
        assert server.ask(b"a\n") == b"1"
        assert server.ask(b"b\n") == b"2"
        assert server.server.state is lines
    assert lines == [b"a\n", b"b\n", "the end"]


def test_a_lifespan_that_fails_is_told_of(engine):
    @contextlib.asynccontextmanager
    async def lifespan(server):
        if fails_at == "start":
            raise ValueError("on purpose")
        yield
        raise ValueError("on purpose")

    fails_at = "start"
    with pytest.raises(anysock.StartError, match="on purpose"):
        with serving("echo", engine=engine, lifespan=lifespan):
            pytest.fail("it has started")
    fails_at = "end"
    with pytest.raises(AssertionError, match=r"failures: LifespanFailed: .* on purpose"):
        with serving("echo", engine=engine, lifespan=lifespan) as server:
            assert server.ask(b"x") == b"x"


@every_concurrent_engine
def test_the_second_end_in_memory_has_a_state(concurrent_engine):
    async def main():
        seen: list[bytes] = []
        near, far = connection_pair(state=seen)
        async with anysock.task_group() as group:
            group.spawn(count(far))
            await near.send_all(b"a\n")
            assert await near.recv() == b"1"
        assert (near.state, seen) == (None, [b"a\n"])

    anysock.run(main, engine=concurrent_engine)


# -- two ends in memory ----------------------------------------------------------------------------


@every_concurrent_engine
def test_a_pair_holds_so_much_and_no_more(concurrent_engine):
    async def main():
        near, far = connection_pair(buffer=10)
        async with anysock.move_on_after(0.01) as scope:
            await near.send_all(bytes(11))
        assert scope.fired
        assert (near.bytes_sent, far.held) == (10, 10)
        with pytest.raises(anysock.StreamBroken):
            await near.send_all(b"more")
        assert await far.recv_exactly(10) == bytes(10)

    anysock.run(main, engine=concurrent_engine)


def test_where_one_thing_happens_at_a_time_a_pair_does_not_wait():
    async def main():
        near, far = connection_pair(buffer=10)
        await near.send_all(b"hello")
        assert await far.recv() == b"hello"
        with pytest.raises(anysock.UsageError, match="one thing at a time"):
            await far.recv()
        with pytest.raises(anysock.UsageError, match="one thing at a time"):
            await near.send_all(bytes(11))

    anysock.run(main, engine="blocking")


@pytest.mark.parametrize("buffer", [0, -1, "10", None])
def test_a_buffer_is_a_number_of_bytes(buffer):
    async def main():
        with pytest.raises(anysock.UsageError, match="connection_pair"):
            connection_pair(buffer)

    anysock.run(main)
