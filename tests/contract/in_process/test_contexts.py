"""Each task has a context of its own: what it sets nobody else sees, and it begins with what was
set where it was spawned. Under every engine."""

from __future__ import annotations

import contextvars
import decimal
import logging
import threading

import anysock
from anysock import Server
from anysock.engines import engine_entry
from tests.harness import PATIENCE, SIMULATED

_var: contextvars.ContextVar[str] = contextvars.ContextVar("test_contexts", default="nothing")


async def say(connection: anysock.Connection, line: bytes) -> bytes:
    """What a line is answered with."""
    await connection.send_all(line + b"\n")
    return (await connection.recv_line()).rstrip(b"\n")


async def talk(address: str, *lines: bytes) -> list[bytes]:
    """Send each of `lines`, and return what each was answered with."""
    async with await anysock.connect(address) as connection:
        return [await say(connection, line) for line in lines]


def serve(engine, handler, clients):
    """Run `clients(address)` beside a server of `handler`: under the same engine where that is a
    simulation; else on a thread, since `blocking` does one thing at a time."""
    problems: list[BaseException] = []

    async def main():
        server = Server(handler, bind="127.0.0.1:0", access_log=False)
        if engine in SIMULATED:
            async with server:
                await clients(server.addresses[0])
            return
        await server.start()
        running = anysock.engines.current.current_engine()

        def on_a_thread():
            try:
                anysock.run(clients, server.addresses[0])
            except BaseException as problem:  # noqa: BLE001
                problems.append(problem)
            finally:
                running.call_from_thread(end)

        def end():
            with anysock.engines.running.engine_is(running):
                running.spawn_background(server.drain(), name="drain")

        thread = threading.Thread(target=on_a_thread)
        thread.start()
        await server.serve_forever()
        thread.join()

    anysock.run(main, engine=engine)
    if problems:
        raise problems[0]


def test_connections_see_nothing_of_each_other(engine):
    async def handler(connection):
        async for line in connection.lines():
            seen = _var.get()
            _var.set(line.strip().decode())
            await connection.send_all(seen.encode() + b"\n")

    async def clients(address):
        assert await talk(address, b"first", b"again") == [b"nothing", b"first"]
        assert await talk(address, b"second") == [b"nothing"]
        if engine_entry(engine).concurrent:
            async with await anysock.connect(address) as other:
                assert await say(other, b"third") == b"nothing"
                assert await talk(address, b"fourth") == [b"nothing"]
                assert await say(other, b"fifth") == b"third"

    serve(engine, handler, clients)


def test_the_arithmetic_of_one_connection_is_not_anothers(engine):
    async def thirds(connection, most):
        async for line in connection.lines():
            await connection.send_all(f"{decimal.Decimal(1) / 3}\n".encode())
            if line == most:
                return

    async def handler(connection):
        await thirds(connection, b"fine\n")
        with decimal.localcontext(prec=3):
            await thirds(connection, b"fine again\n")
        await thirds(connection, None)

    async def clients(address):
        fine = str(decimal.Context(prec=28).divide(1, 3)).encode()
        lines = (b"fine", b"coarse", b"fine again", b"more")
        assert await talk(address, *lines) == [fine, b"0.333", b"0.333", fine]
        if engine_entry(engine).concurrent:
            async with await anysock.connect(address) as other:
                assert await say(other, b"fine") == fine
                assert await say(other, b"coarse") == b"0.333"
                assert await talk(address, b"anything") == [fine]

    serve(engine, handler, clients)


def test_a_filter_of_the_log_finds_the_connection_whose_line_it_is(engine, caplog):
    log = logging.getLogger("test_contexts")

    class WhoseLine(logging.Filter):
        def filter(self, record):
            record.whose = _var.get()
            return True

    which = WhoseLine()
    caplog.handler.addFilter(which)

    async def handler(connection):
        async for line in connection.lines():
            _var.set(line.strip().decode())
            await anysock.sleep(0)
            log.warning("a line of %s", line.strip().decode())
            await connection.send_all(b"said\n")

    async def clients(address):
        for name in (b"one", b"two", b"three"):
            assert await talk(address, name) == [b"said"]

    try:
        serve(engine, handler, clients)
    finally:
        caplog.handler.removeFilter(which)
    told = [(r.message, r.whose) for r in caplog.records if r.name == "test_contexts"]
    assert told == [(f"a line of {name}", name) for name in ("one", "two", "three")]


def test_what_is_spawned_begins_with_the_context_of_its_spawner(engine):
    seen = {}

    async def child(name):
        seen[name] = _var.get()
        _var.set("set by " + name)

    async def main():
        _var.set("main's")
        await anysock.spawn(child("task")).join()
        async with anysock.task_group() as group:
            group.spawn(child("task of a group"))
        aside = anysock.engines.current.current_engine().spawn_background(child("aside"))
        await aside.join()

        def blocks():
            seen["to_thread"] = _var.get()
            _var.set("set by to_thread")

        await anysock.to_thread(blocks)
        seen["main"] = _var.get()

    anysock.run(main, engine=engine)
    expected = ("task", "task of a group", "aside", "to_thread", "main")
    assert seen == dict.fromkeys(expected, "main's")


def test_after_a_run_the_callers_context_is_as_before(engine):
    async def main():
        seen = _var.get()
        _var.set("main's")
        await anysock.sleep(0)
        return seen

    token = _var.set("the caller's")
    try:
        assert anysock.run(main, engine=engine) == "the caller's"
        assert _var.get() == "the caller's"
    finally:
        _var.reset(token)


def test_a_step_that_is_thrown_into_sees_the_context_too(concurrent_engine):
    seen = []

    async def child():
        _var.set("the child's")
        try:
            await anysock.sleep(PATIENCE)
        finally:
            seen.append(_var.get())

    async def main():
        task = anysock.spawn(child())
        await anysock.sleep(0.01)
        task.cancel()
        try:
            await task.join()
        except anysock.Cancelled:
            return _var.get()

    assert anysock.run(main, engine=concurrent_engine) == "nothing"
    assert seen == ["the child's"]


def test_a_group_cancels_its_tasks_in_the_order_of_spawning(concurrent_engine, monkeypatch):
    """Which of them then runs first is the engine's affair: trio shuffles on purpose."""
    cancelled = []
    cancel = anysock.tasks.groups.GroupTask.cancel

    def told(task):
        cancelled.append(task.name)
        cancel(task)

    monkeypatch.setattr(anysock.tasks.groups.GroupTask, "cancel", told)
    names = [f"task {number}" for number in range(50)]

    async def main():
        async with anysock.task_group() as group:
            for name in names:
                group.spawn(anysock.sleep(PATIENCE), name=name)
            group.cancel()

    anysock.run(main, engine=concurrent_engine)
    assert cancelled == names
