"""What a connection, and the server, come to when a handler, a listener to events, or whoever
drains, does not do as it should."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Server
from anysock.engines.base import Binding
from anysock.engines.blocking.engine import BlockingEngine
from anysock.engines.blocking.streams import BlockingStream
from anysock.engines.current import current_engine
from anysock.engines.posix.listening import open_sockets
from anysock.net.addresses import binding_of
from anysock.telemetry.events import EventGroup
from tests.contract.in_process.test_streams import receive, receive_all, two_ends
from tests.harness import PATIENCE, wait_until
from tests.harness import receive_all as receive_all_of
from tests.told import Told

MANY_BYTES = bytes(50_000_000)


@contextlib.contextmanager
def client_of(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        yield client


async def until(condition, what: str) -> None:
    engine = current_engine()
    end = engine.now() + PATIENCE
    while not condition():
        assert engine.now() < end, what
        await anysock.sleep(0.005)


# -- the answer -----------------------------------------------------------------------------------


def test_an_answer_reaches_a_client_that_speaks_on_when_the_server_hears_no_more(
    concurrent_engine,
):
    """As when its lifetime is over: the handler gets the end of the stream, and answers."""
    # More than any engine takes ahead of who receives.
    data, answered = bytes(range(250)) * 2500, []

    async def handler(connection):
        await connection.recv()
        await connection.send_all(data)
        connection.stream.end_receiving()
        answered.append(True)

    async def main():
        async with Server(handler, bind="127.0.0.1:0", socket_buffer=20_000) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                # So that its system does not take all of the answer for it. Through so little room
                # data go slowly: at first there is more.
                stream: Any = client.stream
                stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 60_000)
                await client.send_all(b"?")
                received = bytearray()
                while chunk := await client.recv(1000):
                    received += chunk
                    if not answered and len(received) > 500_000:
                        stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8000)
                    if len(answered) in (1, 2, 3):
                        # It does not read, but speak, while much of the answer is not sent yet.
                        answered.append(True)
                        await anysock.sleep(0.02)
                        with contextlib.suppress(OSError):
                            await client.send_all(b"and")
                assert received == data
                assert len(answered) == 4, "it was to speak on"

    anysock.run(main, engine=concurrent_engine)


def test_an_answer_reaches_a_client_that_speaks_on_when_its_time_is_over_while_the_close_waits(
    concurrent_engine, monkeypatch
):
    """As when its lifetime, or the server's, is over after the handler has returned."""
    monkeypatch.setattr("anysock.engines.posix.streams.LINGER_SECONDS", PATIENCE)
    data, streams = bytes(range(250)) * 600, []

    async def handler(connection):
        streams.append(connection.stream)
        await connection.recv()
        await connection.send_all(data)

    async def main():
        async with Server(handler, bind="127.0.0.1:0", socket_buffer=500_000) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(b"?")
                await until(lambda: streams and streams[0]._state.end_sent, "the close has begun")
                assert streams[0].progress() < len(data), "its system has taken all"
                streams[0].end_receiving()
                await client.send_all(b"and")
                assert await receive_all(client) == data

    anysock.run(main, engine=concurrent_engine)


# -- the handler ----------------------------------------------------------------------------------


def test_nothing_can_be_sent_after_an_abort_so_that_nobody_stays(concurrent_engine):
    """A handler cleans up by sending to a peer that does not read: it would wait for ever."""
    raised: list[BaseException] = []

    async def handler(connection):
        try:
            while await connection.recv():
                pass
            await anysock.sleep(PATIENCE)  # it does not come to its end by itself
        finally:
            for data in (b"bye", MANY_BYTES):
                try:
                    await connection.send_all(data)
                except ConnectionAbortedError as error:
                    raised.append(error)

    async def main():
        told = Told()
        options = anysock.ServeOptions(bind="127.0.0.1:0", idle_timeout=0.2, write_timeout=0.2)
        async with Server(handler, options, events=told) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(b"x")
                await until(lambda: told.reasons, "the connection has ended")
                assert not server.connections
        assert told.reasons == [CloseReason.IDLE]
        assert len(raised) == 2

    anysock.run(main, engine=concurrent_engine)


def test_a_task_of_a_handler_that_sends_does_not_outlive_the_connection(concurrent_engine):
    """Its peer says nothing, and does not read."""

    async def handler(connection):
        anysock.spawn(send(connection))
        await until(lambda: connection.stream.sending, "the task waits for its peer")

    async def send(connection):
        try:
            await connection.send_all(MANY_BYTES)
        except (ConnectionError, anysock.StreamClosed) as error:
            ended.append(error)

    ended: list[BaseException] = []

    async def main():
        told = Told()
        async with Server(handler, bind="127.0.0.1:0", events=told) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await until(lambda: ended, "the task has ended")
                with contextlib.suppress(ConnectionResetError):
                    received = await receive_all(client)
                    assert len(received) < len(MANY_BYTES)
            await until(lambda: told.reasons, "the connection has ended")

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("half_closed", [False, True])
def test_the_peer_of_an_aborted_stream_never_takes_it_for_the_end(concurrent_engine, half_closed):
    """It reads all that was sent while the handler, whose send was aborted, still cleans up."""
    may_read = threading.Event()
    received: list[int] = []
    raised: list[BaseException] = []

    async def handler(connection):
        if half_closed:
            assert await connection.recv() == b""
        sender = anysock.spawn(send(connection))
        await until(lambda: connection.stream.sending, "the task waits for its peer")
        connection.abort()
        await sender.join()
        may_read.set()
        stream = connection.stream
        await until(lambda: stream.progress() == stream.bytes_sent, "the peer has all of it")

    async def send(connection):
        try:
            await connection.send_all(MANY_BYTES)
        except ConnectionAbortedError as error:
            raised.append(error)

    async def main():
        told = Told()
        async with Server(handler, bind="127.0.0.1:0", events=told) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                if half_closed:
                    await client.send_eof()
                await until(may_read.is_set, "the send was aborted")
                with pytest.raises(ConnectionResetError):
                    while data := await client.recv():
                        received.append(len(data))
            await until(lambda: told.reasons, "the connection has ended")
        assert told.reasons == [CloseReason.ABORTED]

    anysock.run(main, engine=concurrent_engine)
    assert len(raised) == 1
    assert sum(received) < len(MANY_BYTES)


async def _catches(connection):
    with contextlib.suppress(ConnectionError):
        while data := await connection.recv():
            await connection.send_all(data)


async def _aborts(connection):
    await connection.recv()
    connection.abort()


async def _catches_and_aborts(connection):
    await _catches(connection)
    connection.abort()


@pytest.mark.parametrize("handler", [_catches, _catches_and_aborts])
def test_a_reset_that_the_handler_catches_is_a_loss(concurrent_engine, handler):
    async def main():
        told = Told()
        async with Server(handler, bind="127.0.0.1:0", events=told) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(b"x")
                assert await client.recv() == b"x"
                client.abort()
            await until(lambda: told.reasons, "the connection has ended")
        [(_, reason, error)] = told.of("connection_closed")
        assert reason is CloseReason.LOST
        assert isinstance(error, ConnectionResetError)

    anysock.run(main, engine=concurrent_engine)


def test_who_aborts_has_aborted(concurrent_engine):
    async def main():
        told = Told()
        async with Server(_aborts, bind="127.0.0.1:0", events=told) as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(b"x")
                await until(lambda: told.reasons, "the connection has ended")
        assert told.reasons == [CloseReason.ABORTED]

    anysock.run(main, engine=concurrent_engine)


# -- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("broken"), BrokenPipeError(32, "Broken pipe")])
@pytest.mark.parametrize("event", ["connection_accepted", "connection_opened", "connection_closed"])
def test_a_listener_that_raises_harms_nobody(concurrent_engine, caplog, event, error):
    def fail(*_):
        raise error

    async def main():
        told = Told()
        bad = anysock.Events()
        setattr(bad, event, fail)
        events = EventGroup(bad, told)
        async with Server("echo", bind="127.0.0.1:0", events=events, max_connections=1) as server:
            for number in range(1, 4):
                async with await anysock.connect(server.addresses[0]) as client:
                    await client.send_all(b"x")
                    assert await client.recv() == b"x"
                await until(lambda number=number: len(told.reasons) == number, "it has ended")
            assert not server.ending
        assert len(told.of("connection_opened")) == 3
        counters = server.counters
        assert counters.accepted == sum(counters.closed.values()) == sum(counters.durations) == 3
        assert not counters.open
        assert sum(record.levelname == "ERROR" for record in caplog.records) == 3

    anysock.run(main, engine=concurrent_engine)


# -- drains ---------------------------------------------------------------------------------------


def test_a_drain_that_is_given_up_is_over_for_all():
    """By asyncio, as a program may do that has a server inside."""

    async def handler(connection):
        busy.set()
        await anysock.sleep(PATIENCE)

    async def main():
        server = Server(handler, bind="127.0.0.1:0", drain_timeout=PATIENCE)
        await server.start()
        serving = asyncio.create_task(server.serve_forever())
        with client_of(server):
            await busy.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await server.drain()
            async with asyncio.timeout(PATIENCE):
                await server.drain()
                await serving

    busy = asyncio.Event()
    asyncio.run(main())


def test_who_is_aborted_before_the_handler_has_begun_is_gone_too(concurrent_engine):
    """They wait in the backlog, and the drain has no time at all."""

    async def handler(connection):
        await anysock.sleep(PATIENCE)

    async def main():
        told = Told()
        server = Server(handler, bind="127.0.0.1:0", events=told)
        await server.start()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(await anysock.connect(server.addresses[0]))
            serving = anysock.spawn(server.serve_forever())
            await anysock.sleep(0)
            await server.drain(0)
            assert not server.connections
            await serving.join()
        assert len(told.of("connection_opened")) == len(told.reasons)

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("name", ["blocking", "threads", "selector"])
def test_a_signal_while_the_server_starts_is_not_lost(name, monkeypatch):
    """It comes while a name is looked up, say, and may be heard on another thread."""
    heard = threading.Event()
    drain = Server.drain

    async def drained(self, timeout=None):
        aborted = await drain(self, timeout)
        heard.set()
        return aborted

    def slow(address, machine):
        os.kill(os.getpid(), signal.SIGTERM)
        if name != "selector":  # that one hears of it when its loop runs
            assert heard.wait(PATIENCE)
        return binding_of(address, machine)

    monkeypatch.setattr("anysock.server.bindings.binding_of", slow)
    monkeypatch.setattr(Server, "drain", drained)
    assert anysock.serve("echo", bind="127.0.0.1:0", engine=name) == 0


def test_who_is_accepted_as_the_server_is_told_to_end_is_served(monkeypatch):
    """Under `blocking`, between accept(2) and the handler, no connection is there to be seen."""
    accept, draining, drained = BlockingEngine.accept, threading.Event(), threading.Event()

    class Heard(anysock.Events):
        def drain_begun(self, connections, seconds):
            draining.set()

        def drained(self, aborted, seconds):
            drained.set()

    async def slow(engine, listener):
        stream = await accept(engine, listener)
        server.request_end()
        assert draining.wait(PATIENCE)
        assert not drained.wait(0.1), "the server is over, and this one was not served"
        return stream

    async def main():
        await server.start()
        with client_of(server) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            await server.serve_forever()
            assert receive_all_of(client) == b"hello"

    monkeypatch.setattr(BlockingEngine, "accept", slow)
    server = Server("echo", bind="127.0.0.1:0", events=Heard())
    anysock.run(main, engine="blocking")
    assert server.aborted == 0


def test_the_end_of_a_connection_is_told_before_that_of_the_server():
    """Under `threads`, on another thread, which may be held up in between."""
    told, closing, release = [], threading.Event(), threading.Event()
    drained = threading.Event()

    class Heard(anysock.Events):
        def connection_closed(self, connection, reason, error):
            closing.set()
            assert release.wait(PATIENCE)
            told.append(reason)

        def drained(self, aborted, seconds):
            told.append("drained")
            drained.set()

    async def main():
        async with Server("echo", bind="127.0.0.1:0", events=Heard()) as server:
            with client_of(server) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            assert await anysock.to_thread(closing.wait, PATIENCE)
            draining = anysock.spawn(server.drain())
            assert not await anysock.to_thread(drained.wait, 0.1)
            release.set()
            await draining.join()

    anysock.run(main, engine="threads")
    assert told == [CloseReason.DONE, "drained"]


# -- a Unix socket --------------------------------------------------------------------------------


def _open(path: str, barrier, results) -> None:
    barrier.wait()
    try:
        [listening] = open_sockets([Binding(f"unix://{path}", ((socket.AF_UNIX, path),))], 16)
    except OSError as error:
        results.put(str(error))
    else:
        results.put("listens")
        barrier.wait()
        listening.close()
        return
    barrier.wait()


def test_of_two_servers_that_find_a_dead_ones_socket_one_listens(tmp_path):
    path = str(tmp_path / "socket")
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        barrier, results = context.Barrier(2), context.Queue()
        servers = [context.Process(target=_open, args=(path, barrier, results)) for _ in range(2)]
        for server in servers:
            server.start()
        told = sorted(results.get(timeout=PATIENCE) for _ in servers)
        for server in servers:
            server.join(PATIENCE)
            assert server.exitcode == 0
        assert told[1] == "listens"
        assert "in use" in told[0]
        assert not os.path.exists(path)
    wait_until(lambda: not os.listdir(tmp_path), "nothing is left")


def test_a_reset_that_another_thread_is_told_of_is_no_end_of_the_stream(monkeypatch):
    """The kernel tells of a reset once. When that is the thread that sends, recv(2) says ``b""`` to
    the other, before anybody has written down what has happened."""
    told, received_nothing = threading.Event(), threading.Event()
    explain = BlockingStream._explain
    receive = BlockingStream._recv

    def slow_to_write_it_down(stream, error):
        told.set()
        received_nothing.wait(PATIENCE)
        return explain(stream, error)

    def once_it_is_told(stream, asked):
        assert told.wait(PATIENCE)
        data = receive(stream, asked)
        received_nothing.set()
        return data

    async def main():
        async with two_ends(lambda stream: stream) as (near, far):
            await far.send_all(b"unread")
            monkeypatch.setattr(BlockingStream, "_explain", slow_to_write_it_down)
            monkeypatch.setattr(BlockingStream, "_recv", once_it_is_told)
            far.abort()
            await far.close()
            sending = anysock.spawn(near.send_all(bytes(10_000_000)))
            with pytest.raises(ConnectionResetError):
                while await near.recv():
                    pass
            with pytest.raises(ConnectionError):
                await sending.join()

    anysock.run(main, engine="threads")


def test_a_reset_that_a_send_in_flight_is_told_of_is_no_end_of_the_stream(concurrent_engine):
    """Nor where the send was told of it, and its completion was not taken yet."""

    async def main():
        async with two_ends(lambda stream: stream) as (near, far), anysock.task_group() as group:

            async def send(stream, data):
                with contextlib.suppress(ConnectionError):
                    await stream.send_all(data)

            group.spawn(send(far, MANY_BYTES))
            await until(lambda: far.sending, "there is no room for all of it")
            some = bytes(20_000)
            sending = group.spawn(send(near, some))
            await receive(far, len(some))  # a lot: more of the kind is expected
            await sending.join()  # a thread may come later to where it returns
            group.spawn(send(near, some))
            await until(lambda: near.bytes_sent > len(some), "more has come")
            near.abort()
            await near.close()
            with pytest.raises(ConnectionResetError):
                while await far.recv():
                    pass

    anysock.run(main, engine=concurrent_engine)


def test_a_stream_knows_whether_something_has_come_that_was_not_received(concurrent_engine):
    """So a drain ends nobody whose word lies there. The engine `uring` has received it by then."""

    async def main():
        async with two_ends(lambda stream: stream) as (near, far):
            assert not far.has_come()
            await near.send_all(b"hello")
            if concurrent_engine != "uring":
                await until(far.has_come, "it has come")
            await receive(far, 5)
            assert not far.has_come()
            await near.send_eof()
            await until(far.has_come, "the end of the stream has come")
            assert await far.recv() == b""
            assert not far.has_come()
            await far.close()
            assert not far.has_come()

    anysock.run(main, engine=concurrent_engine)
