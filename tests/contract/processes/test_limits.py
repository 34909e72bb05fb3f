"""Limits: who meets one, what the client sees of it, and what the server tells.

The numbers, and who waits for whom, are the server's affair, and looked at in one process, where
its counters can be seen: once for each engine. What is written in the log is looked at in the log
of the real server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection, Server
from anysock.engines.current import current_engine
from anysock.server.admission import TokenBucket
from tests.contract.in_process.test_endings import until
from tests.harness import (
    PATIENCE,
    ServerProcess,
    exchange,
    receive_all,
    receive_exactly,
    wait_until,
)
from tests.told import Told

#: The limits have nothing to do with how an engine works: two that differ most will do, and the one
#: that does one thing at a time. (When each is met, is looked
#: at in `simulated/`: `test_time_limits.py` and `test_admission.py`.)
SOME_ENGINES = ("blocking", "threads", "selector")

MB = 1_000_000


@contextlib.asynccontextmanager
async def serving(handler="echo", **options) -> AsyncIterator[tuple[Server, Told]]:
    told = Told()
    async with Server(handler, bind="127.0.0.1:0", events=told, **options) as server:
        yield server, told


async def client_of(server: Server, stack: contextlib.AsyncExitStack) -> Connection:
    return await stack.enter_async_context(await anysock.connect(server.addresses[0]))


async def served(client: Connection, seconds: float = PATIENCE) -> bool:
    """Whether the client is answered within so many seconds."""
    await client.send_all(b"hello")
    async with anysock.move_on_after(seconds):
        return bool(await client.recv_exactly(5) == b"hello")
    return False


async def is_turned_away(server: Server, stack: contextlib.AsyncExitStack) -> bool:
    """The reset may come before anybody has looked whether it is connected."""
    try:
        return not await served(await client_of(server, stack))
    except (ConnectionError, anysock.EndOfStream):
        return True


# -- how many -------------------------------------------------------------------------------------


def test_the_third_waits_until_one_leaves(concurrent_engine):
    async def main():
        async with (
            serving(max_connections=2) as (server, told),
            contextlib.AsyncExitStack() as stack,
        ):
            first, second, third = [await client_of(server, stack) for _ in range(3)]
            assert await served(first)
            assert await served(second)
            assert not await served(third, 0.1)
            assert len(server.connections) == 2
            await first.close()
            assert await third.recv_exactly(5) == b"hello"
            assert server.counters.waited == {"max_connections": 1}
            fourth = await client_of(server, stack)
            assert not await served(fourth, 0.05)
            await second.close()
            assert await fourth.recv_exactly(5) == b"hello"
            assert server.counters.waited == {"max_connections": 2}
        assert told.of("limit_met")[0] == ("max_connections", "2 connections")
        assert server.counters.accepted == 4

    anysock.run(main, engine=concurrent_engine)


def test_with_overflow_close_the_third_is_closed_and_the_fourth_served(concurrent_engine):
    async def main():
        async with (
            serving(max_connections=2, overflow="close") as (server, told),
            contextlib.AsyncExitStack() as stack,
        ):
            first, second = [await client_of(server, stack) for _ in range(2)]
            assert await served(first)
            assert await served(second)
            assert await is_turned_away(server, stack)
            await first.close()
            await until(lambda: len(server.connections) == 1, "the first has left")
            fourth = await client_of(server, stack)
            assert await served(fourth)
            assert await served(second), "nobody else has noticed"
            assert told.reasons.count(CloseReason.OVERFLOW) == 1
            assert server.counters.closed[CloseReason.OVERFLOW] == 1
            assert not server.counters.waited
            assert server.counters.accepted == 4

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("overflow", ["wait", "close"])
def test_there_are_never_more_than_so_many(concurrent_engine, overflow):
    """40 clients, on two listening sockets, come and go as they like: 5 at once."""

    async def main():
        at_once = [0]
        worst = [0]
        lock = threading.Lock()
        full = anysock.Event()

        async def counted(connection):
            with lock:
                at_once[0] += 1
                worst[0] = max(worst[0], at_once[0])
                if at_once[0] == 5:
                    full.set()
            try:
                await connection.send_all(await connection.recv())
                # Nobody leaves before all places were taken once: on a busy machine, clients may
                # come more slowly than they go.
                await full.wait()
                await anysock.sleep(0.002)
            finally:
                with lock:
                    at_once[0] -= 1

        options = {"max_connections": 5, "overflow": overflow, "accept_rate": None}
        bind = ["127.0.0.1:0", "127.0.0.1:0"]
        told = Told()
        answered = [0]

        async def client(number):
            try:
                async with await anysock.connect(server.addresses[number % 2]) as connection:
                    await connection.send_all(b"hello")
                    if await connection.recv() == b"hello":
                        with lock:
                            answered[0] += 1
                    assert await connection.recv() == b""
            except ConnectionError:
                assert overflow == "close"

        async with Server(counted, bind=bind, events=told, **options) as server:
            async with anysock.TaskGroup() as group:
                for number in range(40):
                    group.spawn(client(number))
            await until(lambda: sum(server.counters.closed.values()) == 40, "all have left")
        assert worst[0] <= 5
        refused = server.counters.closed[CloseReason.OVERFLOW]
        if overflow == "wait":
            assert answered[0] == 40
            assert worst[0] == 5
            assert not refused
        else:
            assert answered[0] + refused == 40

    anysock.run(main, engine=concurrent_engine)


def turned_away(host: str, server: ServerProcess) -> bool:
    """The reset may come before anybody has looked whether it is connected."""
    try:
        with server.connect_from(host) as client:
            return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("engine", SOME_ENGINES[1:])
def test_one_source_has_so_many_and_another_as_many(start_server, engine):
    server = start_server("echo", "--per-source", "2", engine=engine)
    server.expected_errors.append("too many from its source")
    ours = [server.connect_from("127.0.0.2") for _ in range(2)]
    with contextlib.ExitStack() as stack:
        for client in [*ours, *(server.connect_from("127.0.0.3") for _ in range(2))]:
            stack.enter_context(client)
            client.sendall(b"x")
            receive_exactly(client, 1)
        assert turned_away("127.0.0.2", server)
        server.wait_for(r"closed the connection from .*127\.0\.0\.2.*: too many from its source")
        ours[0].close()
        server.wait_for("after .* bytes in")
        with server.connect_from("127.0.0.2") as fourth:
            fourth.sendall(b"x")
            assert receive_exactly(fourth, 1) == b"x"


@pytest.mark.parametrize("engine", SOME_ENGINES)
@pytest.mark.parametrize(
    ("options", "denied", "let_in"),
    [
        (["--allow", "127.0.0.4/30", "--deny", "127.0.0.5"], "127.0.0.5", "127.0.0.6"),
    ],
)
def test_networks_are_allowed_and_denied(start_server, engine, options, denied, let_in):
    server = start_server("echo", *options, engine=engine)
    server.expected_errors.append("denied")
    assert turned_away(denied, server)
    with server.connect_from(let_in) as client:
        client.sendall(b"x")
        assert receive_exactly(client, 1) == b"x"
    server.wait_for(rf"closed the connection from .*{denied}.*: denied")


FLOOD = 1500


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("threads", "denied"),
        ("selector", "too many connections"),
        ("selector", "too many from its source"),
    ],
)
def test_a_flood_of_those_who_are_refused_leaves_nothing_behind(start_server, engine, reason):
    """And who may come in does."""
    options = {
        "denied": ["--deny", "127.0.0.2"],
        "too many connections": ["--max-connections", "2", "--overflow", "close"],
        "too many from its source": ["--per-source", "2"],
    }[reason]
    server = start_server("echo", *options, "--log-level", "error", engine=engine, python_flags=())
    with contextlib.ExitStack() as stack:
        if reason != "denied":
            for _ in range(2):
                client = stack.enter_context(server.connect_from("127.0.0.2"))
                client.sendall(b"x")
                receive_exactly(client, 1)
        fds, threads = server.fds(), server.threads()
        for _ in range(FLOOD):
            assert turned_away("127.0.0.2", server)
        wait_until(
            lambda: server.fds() <= fds and server.threads() <= threads, "all of them are closed"
        )
        if reason != "too many connections":
            with server.connect_from("127.0.0.3") as client:
                client.sendall(b"x")
                assert receive_exactly(client, 1) == b"x"


# -- how fast they come ---------------------------------------------------------------------------


def test_no_more_come_in_than_the_rate_says_and_all_do(concurrent_engine, monkeypatch):
    delays = []

    def take(bucket, now, amount=1.0, take=TokenBucket.take):
        delays.append(take(bucket, now, amount))
        return delays[-1]

    def may(bucket, now, amount=1.0, may=TokenBucket.may):
        if passes := may(bucket, now, amount):
            delays.append(0.0)  # who may not waits, by `take`
        return passes

    monkeypatch.setattr(TokenBucket, "take", take)
    monkeypatch.setattr(TokenBucket, "may", may)

    async def main():
        async with (
            serving(accept_rate=40) as (server, told),
            contextlib.AsyncExitStack() as stack,
        ):
            engine = current_engine()
            began = engine.now()
            clients = [await client_of(server, stack) for _ in range(16)]
            for client in clients:
                assert await served(client)
            took = engine.now() - began
            # A burst of 4 at once, and 12 more. Fewer than 12 have to wait if the machine held the
            # server up meanwhile, as the time has gone by all the same.
            assert took >= 12 / 40
            assert len(delays) == 16
            waited = sum(delay > 0 for delay in delays)
            assert server.counters.waited["accept_rate"] == waited
            assert 1 <= waited <= 12
        assert told.of("limit_met")[0] == ("accept_rate", "40 connections a second")
        assert CloseReason.ACCEPT_RATE not in told.reasons

    anysock.run(main, engine=concurrent_engine)


def test_with_overflow_close_those_who_come_too_soon_are_closed(concurrent_engine):
    async def main():
        async with (
            serving(accept_rate=10, overflow="close") as (server, told),
            contextlib.AsyncExitStack() as stack,
        ):
            began = current_engine().now()
            first = await client_of(server, stack)
            assert await served(first)
            turned_away = [await is_turned_away(server, stack) for _ in range(50)]
            took = current_engine().now() - began
            # A place each 0.1 s, and how many there are at the start.
            assert sum(turned_away) >= 50 - took * 10 - 1
            await until(lambda: len(told.reasons) >= sum(turned_away), "all that are have ended")
            refused = told.reasons.count(CloseReason.ACCEPT_RATE)
            assert refused == sum(turned_away)
            assert server.counters.closed[CloseReason.ACCEPT_RATE] == refused
            await anysock.sleep(0.12)
            assert await served(await client_of(server, stack)), "the flood has cost its place"

    anysock.run(main, engine=concurrent_engine)


# -- how long -------------------------------------------------------------------------------------


def test_each_limit_of_time_ends_whom_it_is_for(concurrent_engine):
    """All at once, beside one that does nothing wrong, and that only its lifetime ends."""
    reasons: dict[str, tuple[CloseReason, float]] = {}
    peers: dict[object, str] = {}

    class Notes(anysock.Events):
        def connection_closed(self, connection, reason, error):
            if connection.peer in peers:
                lasted = connection.lasted or 0.0
                reasons[peers[connection.peer]] = (reason, lasted)

    async def handler(connection):
        async for chunk in connection:
            await connection.send_all(bytes(50 * MB) if chunk == b"!" else chunk)

    async def client(address, name, say, every):
        connection = await anysock.connect(address)
        async with connection:
            peers[connection.local] = name
            with contextlib.suppress(ConnectionError):
                await connection.send_all(say)
                while name not in reasons:
                    await anysock.sleep(every)
                    if every < 0.2:
                        await connection.send_all(say)
                        async with anysock.move_on_after(0.02):
                            if await connection.recv() == b"":
                                break

    async def main():
        options: dict[str, Any] = {
            "idle_timeout": 0.4, "write_timeout": 0.2, "min_rate": 150, "max_lifetime": 1.2,
        }  # fmt: skip
        async with Server(handler, bind="127.0.0.1:0", events=Notes(), **options) as server:
            async with anysock.TaskGroup() as group:
                for name, say, every in (
                    ("silent", b"hello", 0.21),
                    ("drips", b"x", 0.1),
                    ("does not read", b"!", 0.21),
                    ("good", b"x" * 100, 0.02),
                ):
                    group.spawn(client(server.addresses[0], name, say, every))

    anysock.run(main, engine=concurrent_engine)
    assert {name: reason for name, (reason, _) in reasons.items()} == {
        "silent": CloseReason.IDLE,
        "drips": CloseReason.TOO_SLOW,
        "does not read": CloseReason.WRITE_TIMEOUT,
        "good": CloseReason.LIFETIME,
    }
    for name, least in (("silent", 0.4), ("drips", 0.4), ("does not read", 0.2), ("good", 1.2)):
        assert least <= reasons[name][1] < least + 1.5, name


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_peer_that_does_not_read_is_told_as_that(start_server, engine):
    server = start_server("chargen", "--write-timeout", "300ms", engine=engine)
    server.expected_errors.append("write timeout")
    with server.connect() as client:
        line = server.wait_for("closed the connection from .*: write timeout")
        assert str(client.getsockname()[1]) in line[0]
        with pytest.raises(ConnectionResetError):
            while client.recv(1 << 20):
                pass


@pytest.mark.parametrize("engine", ["blocking"])
def test_who_sends_a_byte_now_and_then_is_not_idle_but_too_slow(start_server, engine):
    server = start_server(
        *("echo", "--idle-timeout", "500ms", "--min-rate", "100"), engine=engine, python_flags=()
    )
    server.expected_errors.append("too slow")
    with server.connect() as client:
        client.settimeout(0.05)
        sent = 0
        while True:
            try:
                client.sendall(b"x")
                sent += 1
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break  # what is sent after the end is answered with a reset
            time.sleep(0.1)  # the client that is tested is one that is slow
    assert sent > 3
    server.wait_for("closed the connection from .*: too slow")


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_lifetime_has_an_end(start_server, engine):
    server = start_server("chargen", "--max-lifetime", "300ms", engine=engine)
    server.expected_errors.append("end of its lifetime")
    with server.connect() as client:
        began = time.monotonic()
        # In good order: with the end of the stream, and nothing lost before it.
        assert len(receive_all(client)) % 74 == 0
        assert 0.2 < time.monotonic() - began < 5
    server.wait_for("closed the connection from .*: end of its lifetime")


def test_a_large_send_to_a_peer_that_reads_is_not_taken_for_stuck(concurrent_engine, tmp_path):
    """In one call, over a socket whose buffer is empty whenever it is looked at."""
    size = 400 * MB
    data = bytes(size)

    async def handler(connection):
        await connection.send_all(data)

    async def main():
        told = Told()
        bind = f"unix://{tmp_path}/s"
        # Looked at so often that eight looks fit into a part of it.
        async with Server(handler, bind=bind, write_timeout=0.03, events=told) as server:
            received = await anysock.to_thread(receive, f"{tmp_path}/s")
            await until(lambda: told.reasons, "it has ended")
        return received, told.reasons, server

    def receive(path):
        received = 0
        buffer = bytearray(1 << 20)
        came = time.monotonic()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            while size := client.recv_into(buffer):
                received += size
                pauses.append(time.monotonic() - came)
                came += pauses[-1]
        pauses.append(time.monotonic() - came)
        return received

    pauses: list[float] = []
    received, reasons, _ = anysock.run(main, engine=concurrent_engine)
    # On a busy machine, either side may stand still for so long that it is stuck.
    assert (received, reasons) == (size, [CloseReason.DONE]) or max(pauses) > 0.02


# -- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["blocking", "selector"])
def test_no_more_than_so_many_bytes_each_way(start_server, engine):
    server = start_server("echo", "--max-bytes", "100kB", engine=engine)
    server.expected_errors.append("too many bytes")
    data = os.urandom(100_000)
    assert server.ask(data) == data
    assert not server.matching("too many bytes"), "just as many is not too many"
    with server.connect() as client:
        assert exchange(client, data + b"x") == data
    server.wait_for("closed the connection from .*: too many bytes")


@pytest.mark.parametrize("engine", ["blocking", "selector"])
def test_no_more_than_so_many_bytes_are_sent(start_server, engine):
    server = start_server("chargen", "--max-bytes", "100kB", engine=engine)
    server.expected_errors.append("too many bytes")
    with server.connect() as client:
        assert len(receive_all(client)) == 100_000
    server.wait_for("closed the connection from .*: too many bytes")


def test_no_faster_than_the_rate_and_not_much_slower(concurrent_engine):
    rate, size = 2_000_000, 1_000_000
    data = os.urandom(size)

    async def send(client: Connection) -> None:
        await client.send_all(data)

    async def main():
        async with serving(rate_limit=rate) as (server, _):
            engine = current_engine()
            async with await anysock.connect(server.addresses[0]) as client:
                began = engine.now()
                sender = anysock.spawn(send(client))
                received = await client.recv_exactly(size)
                took = engine.now() - began
                await sender.join()
        assert received == data
        return took

    took = anysock.run(main, engine=concurrent_engine)
    assert size / rate - 0.1 <= took < size / rate * 1.5 + 0.5


# -- what a client costs --------------------------------------------------------------------------


def test_a_slow_reader_of_50_mib_costs_no_memory(concurrent_engine, start_server):
    size = 50 << 20
    server = start_server("echo", engine=concurrent_engine, python_flags=())
    with server.connect() as warm_up:
        exchange(warm_up, b"x" * MB)
    before = server.memory()
    worst = 0
    with server.connect() as client:

        def send() -> None:
            client.sendall(b"x" * size)

        sender = threading.Thread(target=send)
        sender.start()
        received = 0
        while received < size:
            received += len(receive_exactly(client, 5 << 20))
            worst = max(worst, server.memory())
            time.sleep(0.02)  # the reader that is tested is one that is slow
        sender.join()
    assert worst - before < 4 * MB


def test_every_pause_of_reading_comes_to_its_end(concurrent_engine):
    """Readers that are slow, ones that leave, and ones that are thrown out."""

    async def main():
        async with (
            serving(write_timeout=0.3, socket_buffer=8192) as (server, told),
            contextlib.AsyncExitStack() as stack,
        ):
            engine = current_engine()
            clients = [await client_of(server, stack) for _ in range(6)]

            async def flood(client):
                with contextlib.suppress(ConnectionError, anysock.StreamClosed):
                    await client.send_all(bytes(10 * MB))

            async def read_slowly(client):
                left = 10 * MB
                while left:
                    left -= len(await client.recv())
                    await anysock.sleep(0)

            async with anysock.TaskGroup() as group:
                for client in clients:
                    group.spawn(flood(client))
                await until(lambda: engine.pauses.begun >= 6, "all have to wait")
                readers = [anysock.spawn(read_slowly(client)) for client in clients[:2]]
                clients[2].abort()
                await clients[2].close()
                await until(
                    lambda: told.reasons.count(CloseReason.WRITE_TIMEOUT) == 3, "three are stuck"
                )
                for reader in readers:
                    await reader.join()
        return engine.pauses

    pauses = anysock.run(main, engine=concurrent_engine)
    assert pauses.begun == pauses.ended >= 6


# -- descriptors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", SOME_ENGINES)
def test_the_default_follows_from_the_descriptors_that_there_are(start_server, engine):
    limit = 200
    wrapper = ("prlimit", f"--nofile={limit}:{limit}")
    server = start_server("echo", engine=engine, wrapper=wrapper)
    line = server.wait_for(r"at most (\d+) connections \(as many as there are descriptors for")
    assert limit - server.base_fds - 40 < int(line[1]) < limit - server.base_fds
    told = start_server("echo", "--max-connections", "7", engine=engine)
    told.wait_for(r"at most 7 connections \(--max-connections\)")


@pytest.mark.parametrize("engine", ["threads", "selector", "asyncio"])
def test_200_clients_with_64_descriptors_are_all_served(engine, start_server):
    server = start_server(
        "echo",
        engine=engine,
        wrapper=("prlimit", "--nofile=64:64"),
        python_flags=(),
    )
    server.expected_errors.append("further clients wait")
    most = int(server.wait_for(r"at most (\d+) connections")[1])
    clients = [server.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(b"%03d" % number)
    server.wait_for(f"{most} connections: further clients wait")
    wait_until(lambda: server.fds() >= server.base_fds + most, "it is full")
    before = server.cpu_seconds()
    time.sleep(1)  # the span in which its CPU is measured
    if engine != "polling":
        assert server.cpu_seconds() - before < 0.05
    assert server.fds() <= server.base_fds + most
    for number, client in enumerate(clients):
        assert receive_exactly(client, 3) == b"%03d" % number
        client.close()
    assert not server.matching("can't accept")
