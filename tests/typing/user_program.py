"""A program of a user, for type checkers: it uses what the library offers, and must be clean.

It also runs: `test_user_program.py` does that, so that what is clean is right, too.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import assert_type

import pytest

import anysock
from anysock.testing import ServerThread, assert_nothing_left, connection_pair, serving
from anysock.testing.plugin import StartServer


@dataclass
class App:
    """What lives as long as the server."""

    greeting: bytes
    seen: dict[str, int] = field(default_factory=dict[str, int])
    jobs: anysock.Queue[bytes] = field(default_factory=lambda: anysock.Queue[bytes](100))
    ready: anysock.Event = field(default_factory=anysock.Event)
    lock: anysock.Lock = field(default_factory=anysock.Lock)
    few: anysock.Semaphore = field(default_factory=lambda: anysock.Semaphore(10))


@contextlib.asynccontextmanager
async def lifespan(server: anysock.Server[App]) -> AsyncGenerator[App, None]:
    app = App(b"hello from " + server.addresses[0].encode())
    worker: anysock.Task[int] = server.spawn(work(app), name="worker")
    yield app
    assert worker.done


async def work(app: App) -> int:
    done = 0
    app.ready.set()
    async for job in app.jobs:
        assert_type(job, bytes)
        done += 1
    return done


# -- handlers --------------------------------------------------------------------------------------


async def commands(connection: anysock.Connection[App]) -> None:
    """Lines, frames, and what comes before a separator."""
    app = connection.state
    assert_type(app, App)
    app.seen[connection.id] = 0
    await app.ready.wait()
    await connection.send_all((app.greeting, b"\r\n"))
    async for line in connection.lines(max_bytes=1000):
        app.seen[connection.id] += 1
        match line.split():
            case [b"JOB", what]:
                async with app.lock, app.few:
                    await app.jobs.put(what)
                await connection.send_all(b"OK\r\n")
            case [b"HEAD"]:
                head = await connection.recv_until(b"\r\n\r\n", max_bytes=8192)
                await connection.send_frame(head, prefix=2)
            case [b"FRAMES"]:
                async for frame in connection.frames(prefix="varint"):
                    await connection.send_frame(frame, prefix="varint")
            case [b"STARTTLS"]:
                await connection.send_all(b"GO\r\n")
                await connection.start_tls(server_side=True)
                session = connection.tls
                version = session.version if session is not None else None
                connection.log.info("speaks %s", version)
            case [b"END"]:
                connection.server.request_end()
            case _:
                connection.unread(line)
                rest = await connection.recv_exactly(len(line))
                await connection.send_all(rest.upper())


async def proxy(target: str, client: anysock.Connection) -> None:
    async with anysock.timeout(5):
        server = await anysock.connect(target)
    async with server:
        there, back = await anysock.relay(client, server)
    client.log.info("%d bytes there, %d back", there, back)


ROOM = anysock.Broadcast(max_items=100, when_full="drop_oldest")


async def chat(connection: anysock.Connection) -> None:
    async with ROOM.join(connection) as outbox:
        assert_type(outbox, anysock.Outbox)
        await outbox.send(b"welcome\r\n")
        async for line in connection.lines():
            heard = await ROOM.publish(line, besides=outbox)
            assert_type(heard, int)
            await outbox.send(b"heard by %d\r\n" % heard)


async def patient(connection: anysock.Connection[None]) -> None:
    buffer = bytearray(100)
    try:
        async with anysock.move_on_after(0.01) as scope:
            size = await connection.recv_into(buffer)
            assert_type(size, int)
        if scope.fired:
            await connection.send_all(b"too late\r\n")
    finally:
        async with anysock.shielded(1):
            await connection.send_eof()


# -- a client --------------------------------------------------------------------------------------


async def ask(address: str, *lines: bytes) -> list[bytes]:
    async with await anysock.connect(address) as connection:
        await connection.send_all(list(lines))
        await connection.send_eof()
        return [line async for line in connection.lines()]


async def secure(address: str, context: ssl.SSLContext) -> str | None:
    async with await anysock.connect(address) as connection:
        await connection.recv_line()
        await connection.send_all(b"STARTTLS\r\n")
        await connection.recv_line()
        await connection.start_tls(context, server_side=False, server_name="localhost")
        session = connection.tls
        return session.version if session is not None else None


async def in_parallel(address: str) -> int:
    tasks: list[anysock.Task[list[bytes]]] = []
    async with anysock.task_group() as group:
        tasks += [group.spawn(ask(address, b"JOB %d\r\n" % number)) for number in range(3)]
    answers = [await task.join() for task in tasks]
    assert_type(answers, list[list[bytes]])
    return sum(map(len, answers))


async def main(engine: str) -> int:
    counted = Counted()
    async with anysock.Server(
        commands, lifespan=lifespan, events=counted, bind="127.0.0.1:0", engine=engine
    ) as server:
        assert_type(server.state, App)
        async with anysock.Server(
            functools.partial(proxy, server.addresses[0]), bind="127.0.0.1:0"
        ) as front:
            lines = await in_parallel(front.addresses[0])
    return lines + counted.closed


class Counted(anysock.Events):
    """Listens to the events."""

    def __init__(self) -> None:
        self.closed = 0

    def connection_closed(
        self,
        connection: anysock.Connection,
        reason: anysock.CloseReason,
        error: BaseException | None,
    ) -> None:
        self.closed += reason is anysock.CloseReason.DONE


def serve(address: str) -> None:
    options: anysock.ServeOptions = anysock.ServeOptions(max_connections=100, drain_timeout=5)
    aborted = anysock.serve(commands, options, lifespan=lifespan)
    aborted += anysock.serve("echo", bind=address, drain_timeout="5s", workers="auto")
    assert_type(aborted, int)


HANDLERS: dict[str, anysock.Handler[None]] = {"patient": patient}
A_HANDLER: Callable[[anysock.Connection[App]], Awaitable[object]] = commands


# -- its tests -------------------------------------------------------------------------------------


def test_jobs_are_counted(anysock_server: StartServer) -> None:
    server = anysock_server(commands, lifespan=lifespan, max_line=1000)
    assert_type(server, ServerThread[App])
    assert server.ask(b"JOB 1\r\n").endswith(b"OK\r\n")


@pytest.mark.anysock
@pytest.mark.anysock_engines(concurrent=True)
async def test_in_memory(anysock_engine: str) -> None:
    assert anysock_engine
    app = App(b"hello")
    app.ready.set()
    client, server = connection_pair(state=app)
    assert_type(server, anysock.Connection[App])
    async with client, anysock.task_group() as group:
        group.spawn(commands(server))
        await client.send_all(b"shout\r\n")
        assert await client.recv_line() == b"hello\r\n"
        assert await client.recv_line() == b"SHOUT\r\n"
        await client.send_eof()


@pytest.mark.anysock_engines("selector", "threads")
def test_nobody_is_there(anysock_server: StartServer) -> None:
    assert anysock_server(chat).ask(b"hello\r\n") == b"welcome\r\nheard by 0\r\n"


def test_without_fixtures() -> None:
    with serving(patient, engine="threads", may_leave=["failures"]) as server:
        assert server.ask(b"") == b""
        assert_nothing_left(server)
