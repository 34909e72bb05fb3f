"""Anysock inside programs that run a loop already: it works, and nothing is left."""

from __future__ import annotations

import contextvars
import gc
import logging
import os
import socket
import sys

import anyio
import pytest

import anysock
from anysock.engines.current import current_engine
from tests.harness import PATIENCE
from tests.hosts.hosts import HOSTS, Host

ON_TRIO = [name for name, (_, loop, _) in HOSTS.items() if loop == "trio"]


@pytest.fixture(params=HOSTS)
def host(request, recwarn, caplog):
    """Each host in turn. When the test is over, there must be no more descriptors than before, no
    warning, and no error in the log of asyncio, trio or ours."""
    host = Host(request.param)
    host.run(_nothing)  # what a loop keeps once it has been used
    gc.collect()
    before = descriptors()
    yield host
    gc.collect()
    assert descriptors() == before
    assert not [str(each.message) for each in recwarn]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def _nothing():
    async with anysock.Server("echo", bind="127.0.0.1:0"):
        await anysock.sleep(0)


def descriptors() -> list[str]:
    """What is open, but for the files that come and go by themselves."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(each for each in found if each in ("socket", "anon_inode", "pipe"))


async def ask(server: anysock.Server, data: bytes = b"hello") -> bytes:
    async with await anysock.connect(server.addresses[0]) as connection:
        await connection.send_all(data)
        return await connection.recv_exactly(len(data))


def is_refused(address: str) -> bool:
    name, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((name, int(port)), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_server_serves_and_ends_with_its_block(host):
    async def main():
        assert current_engine().name == host.engine
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:
            answer = await ask(server)
        assert host.tasks() == []
        assert is_refused(server.addresses[0])
        return answer

    assert host.run(main) == b"hello"


def test_another_server_in_the_same_loop_and_another_loop_after_it(host):
    async def main():
        for _ in range(2):
            async with anysock.Server("echo", bind="127.0.0.1:0") as server:
                assert await ask(server) == b"hello"
        async with (
            anysock.Server("echo", bind="127.0.0.1:0") as server,
            anysock.Server("echo", bind="127.0.0.1:0") as other,
        ):
            assert await ask(server) == await ask(other)

    host.run(main)
    host.run(main)


def test_what_a_handler_may_call_may_be_called_there(host):
    async def main():
        queue: anysock.Queue[int] = anysock.Queue(max_items=1)
        ready = anysock.Event()

        async def produce():
            await ready.wait()
            for number in range(5):
                await queue.put(number)
            queue.close()

        task = anysock.spawn(produce(), name="producer")
        assert "producer" in host.tasks()
        await anysock.sleep(0)
        ready.set()
        assert [each async for each in queue] == [0, 1, 2, 3, 4]
        await task.join()
        with pytest.raises(TimeoutError):
            async with anysock.timeout(0.01):
                await anysock.Event().wait()
        async with anysock.move_on_after(0.01) as scope:
            await anysock.sleep(PATIENCE)
        assert scope.fired
        async with anysock.task_group() as group:
            doubled = group.spawn(double(21))
        assert await anysock.to_thread(lambda: "done") == "done"
        return await doubled.join()

    assert host.run(main) == 42


def test_a_handler_may_use_what_is_written_for_the_loop_of_its_host(host):
    colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour")

    async def handler(connection):
        await anyio.sleep(0)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        await connection.send_all(colour.get().encode())

    async def main():
        colour.set("blue")
        async with (
            anysock.Server(handler, bind="127.0.0.1:0") as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            return await connection.recv()

    assert host.run(main) == b"blue"


def test_it_is_exact_whose_scope_has_ended_a_block(host):
    async def main():
        with host.scope() as cancel:
            async with anysock.move_on_after(PATIENCE) as ours:
                cancel()
                await anysock.sleep(PATIENCE)
        assert not ours.fired
        with pytest.raises(TimeoutError):
            async with anysock.timeout(0.01), anysock.move_on_after(PATIENCE) as inner:
                await anysock.sleep(PATIENCE)
        assert not inner.fired
        async with anysock.move_on_after(PATIENCE) as outer:
            async with anysock.move_on_after(0) as inner:
                await anysock.sleep(PATIENCE)
        assert (inner.fired, outer.fired) == (True, False)

    host.run(main)


def test_a_program_that_runs_is_told_to_use_a_server(host):
    async def main():
        anysock.serve("echo")

    with pytest.raises(anysock.UsageError, match=r"async with anysock\.Server"):
        host.run(main)


async def double(number):
    await anysock.sleep(0)
    return 2 * number


def test_a_host_that_cancels_its_server_waits_until_the_handlers_have_cleaned_up(host):
    cleaned = []

    async def handler(connection):
        try:
            await connection.send_all(await connection.recv())
            await connection.recv()
        finally:
            await anysock.sleep(0)  # clean-up may wait
            cleaned.append(connection)

    async def main():
        with host.scope() as cancel:
            async with anysock.Server(handler, bind="127.0.0.1:0") as server:
                connection = await anysock.connect(server.addresses[0])
                await connection.send_all(b"x")
                assert await connection.recv() == b"x"
                cancel()
                await anysock.sleep(PATIENCE)
        assert len(cleaned) == 1
        assert server.connections == []
        assert host.tasks() == []
        assert is_refused(server.addresses[0])
        assert await connection.recv() == b""
        await connection.close()

    host.run(main)


def test_serve_forever_that_is_cancelled_drains(host):
    async def main():
        server = anysock.Server("echo", bind="127.0.0.1:0")
        await server.start()

        async def give_up():
            assert await ask(server) == b"hello"
            cancel()

        with host.scope() as cancel:
            anysock.spawn(give_up())
            await server.serve_forever()
        assert server.ending
        assert host.tasks() == []
        assert is_refused(server.addresses[0])

    host.run(main)


def test_a_drain_that_is_cancelled_aborts_and_leaves_nobody(host, caplog):
    """The handler is busy, so that the drain would take its whole time; then it is given up."""
    ended = []

    async def handler(connection):
        try:
            await connection.send_all(b"x")
            await anysock.sleep(PATIENCE)
        finally:
            await anysock.sleep(0)
            ended.append(connection)

    async def main():
        async def give_up():
            while not server.ending:
                await anysock.sleep(0.001)
            cancel()

        with host.scope() as cancel:
            async with anysock.Server(
                handler, bind="127.0.0.1:0", drain_timeout=PATIENCE
            ) as server:
                connection = await anysock.connect(server.addresses[0])
                assert await connection.recv() == b"x"
                giving_up = anysock.spawn(give_up())
        assert len(ended) == 1
        await giving_up.join()
        assert host.tasks() == []
        with pytest.raises(ConnectionResetError):
            await connection.recv()
        await connection.close()

    host.run(main)


def test_a_group_that_the_host_cancels_waits_for_its_tasks(host):
    ended = []

    async def work():
        try:
            await anysock.sleep(PATIENCE)
        finally:
            await anysock.sleep(0.01)
            ended.append(True)

    async def main():
        with host.scope() as cancel:
            async with anysock.task_group() as group:
                group.spawn(work())
                await anysock.sleep(0)
                cancel()
        assert ended == [True]

    host.run(main)


def test_what_is_open_when_the_host_ends_is_ended_with_it(host):
    async def main():
        server = anysock.Server("echo", bind="127.0.0.1:0")
        await server.start()
        anysock.spawn(server.serve_forever())
        assert await ask(server) == b"hello"
        return server

    server = host.run(main)
    assert server.ending
    assert is_refused(server.addresses[0])


@pytest.mark.parametrize(
    "host", [each for each in HOSTS if HOSTS[each][1] == "trio"], indirect=True
)
def test_a_shielded_block_is_not_cut_off_by_a_scope_of_trio(host):
    steps = []

    async def main():
        with host.scope() as cancel:
            async with anysock.shielded(PATIENCE) as scope:
                cancel()
                await anysock.sleep(0)
                steps.append("cleaned up")
            assert not scope.fired
            steps.append("and no further")
            await anysock.sleep(PATIENCE)
        return steps

    assert host.run(main) == ["cleaned up", "and no further"]


@pytest.mark.parametrize(
    "host", [each for each in HOSTS if HOSTS[each][1] == "trio"], indirect=True
)
def test_no_task_ends_a_run_of_trio_that_is_not_ours(host, caplog):
    """What a system task of trio's raises is taken for a fault of trio itself."""

    async def end():
        sys.exit("the end")

    async def main():
        task = anysock.spawn(end(), name="last words")
        with pytest.raises(SystemExit):
            await task.join()
        return "goes on"

    assert host.run(main) == "goes on"
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.getMessage() == "task 'last words' can't end a run that is not ours"
    caplog.clear()


def test_a_task_that_fails_is_told_of_and_others_go_on(host, caplog):
    async def main():
        anysock.spawn(fail(), name="doomed")
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:
            return await ask(server)

    async def fail():
        raise ValueError("no")

    assert host.run(main) == b"hello"
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "doomed" in record.getMessage()
    caplog.clear()
