"""Unix sockets and UDP in a history: the real server on them, its restart, and what goes wrong."""

from __future__ import annotations

import os

import pytest

import anysock
from anysock import CloseReason, sim
from anysock.tasks.connecting import connect_datagrams

PATH = "unix:///run/app/socket"


async def ask(address, data=b"hello"):
    async with await anysock.connect(address) as connection:
        await connection.send_all(data)
        await connection.send_eof()
        return b"".join([chunk async for chunk in connection])


async def fails(address):
    with pytest.raises(OSError) as caught:
        await anysock.connect(address)
    return type(caught.value)


# -- Unix sockets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [PATH, "unix://@app"])
def test_a_unix_socket_is_for_its_host_alone(address):
    async def scenario(world):
        host = world.host("server")
        server = host.serve("echo", bind=address)
        assert await host.spawn(ask(address, bytes(500_000))).join() == bytes(500_000)
        other = await world.host("other").spawn(fails(address)).join()
        await server.drain()
        return other, await host.spawn(fails(address)).join(), server.counters.closed

    path = address == PATH
    nobody = FileNotFoundError if path else ConnectionRefusedError
    other, gone, closed = sim.World(1).run(scenario)
    assert (other, gone) == (nobody, nobody)
    assert closed == {CloseReason.DONE: 1}


def test_the_file_that_a_crash_leaves_is_replaced():
    async def scenario(world):
        host = world.host("server")
        host.serve("echo", bind=PATH)
        before = await host.spawn(ask(PATH)).join()
        first = host.host.files.stat("/run/app/socket").st_ino
        host.crash()
        left = host.host.files.stat("/run/app/socket").st_ino
        host.restart()
        await world.sleep(0.1)
        after = await host.spawn(ask(PATH)).join()
        assert left == first != host.host.files.stat("/run/app/socket").st_ino
        return before, after

    assert sim.World(1).run(scenario) == (b"hello", b"hello")


def test_of_two_servers_the_second_is_refused_and_the_file_stays():
    async def scenario(world):
        host = world.host("server")
        host.serve("echo", bind=PATH)
        await world.sleep(0.01)
        second = anysock.Server("echo", bind=PATH)
        with pytest.raises(anysock.StartError, match="in use"):
            await host.spawn(second.start()).join()
        return await host.spawn(ask(PATH)).join()

    assert sim.World(1).run(scenario) == b"hello"


def test_the_peer_is_this_process_and_the_mode_is_what_was_asked_for():
    seen = []

    async def handler(connection):
        seen.append(connection.peer_credentials)

    async def scenario(world):
        host = world.host("server")
        host.serve(handler, bind=f"{PATH}?mode=600")
        assert await host.spawn(ask(PATH)).join() == b""
        return host.host.files.stat("/run/app/socket").st_mode & 0o777

    assert sim.World(1).run(scenario) == 0o600
    assert seen == [(os.getpid(), os.getuid(), os.getgid())]


def test_what_goes_wrong_with_unix_sockets():
    faults = "partial=0.5,short=0.5,small-buffers=0.5,emfile=0.2,refuse=0.1,backlog=0.1"
    data = bytes(range(256)) * 20

    async def talk(data):
        async def send():
            await connection.send_all(data)

        async with await anysock.connect(PATH) as connection, anysock.task_group() as group:
            group.spawn(send())
            return await connection.recv_exactly(len(data))

    async def insist():
        while True:
            try:
                return await talk(data)
            except (ConnectionRefusedError, BlockingIOError):
                await anysock.sleep(0.1)

    async def scenario(world):
        host = world.host("server")
        server = host.serve("echo", bind=PATH)
        await world.sleep(0.1)
        tasks = [host.spawn(insist()) for _ in range(30)]
        assert [await task.join() for task in tasks] == [data] * 30
        await server.drain()

    world = sim.World(1, faults=faults)
    world.run(scenario)
    assert set(world.fired) == {each.partition("=")[0] for each in faults.split(",")}


# -- UDP -------------------------------------------------------------------------------------------


async def insist(address, data):
    """Send until it is answered, and return how often that was."""
    datagrams = await connect_datagrams(address)
    try:
        for attempt in range(1, 100):
            datagrams.send(data)
            async with anysock.move_on_after(0.3):
                while True:
                    if (await datagrams.recv()).data == data:
                        return attempt
    finally:
        datagrams.close()
    raise AssertionError("never answered")


def attempts(seed, faults):
    async def scenario(world):
        server = world.host("server").serve("echo", bind="udp://:7")
        tasks = [
            host.spawn(insist("udp://server:7", host.name.encode()))
            for host in world.hosts("client", 20)
        ]
        found = [await task.join() for task in tasks]
        await server.drain()
        return found

    world = sim.World(seed, faults=faults)
    return world.run(scenario), dict(world.fired), world.network.trace


def test_datagrams_are_answered_at_once_where_nothing_is_lost():
    found, fired, _ = attempts(1, "none")
    assert found == [1] * 20
    assert not fired


def test_datagrams_that_are_lost_are_sent_again():
    faults = "loss=0.3,duplicate=0.2,reorder=0.2"
    found, fired, trace = attempts(1, faults)
    assert max(found) > 1
    assert min(found) == 1
    assert set(fired) == {"loss", "duplicate", "reorder"}
    assert (found, fired, trace) == attempts(1, faults)
    assert trace != attempts(2, faults)[2]


def test_who_speaks_to_a_server_that_is_gone_is_refused():
    async def scenario(world):
        server = world.host("server")
        server.serve("echo", bind="udp://:7")
        client = world.host("client")
        await client.spawn(insist("udp://server:7", b"hello")).join()
        server.crash()
        with pytest.raises(ConnectionRefusedError):
            await client.spawn(insist("udp://server:7", b"hello")).join()
        server.restart()
        await world.sleep(0.1)
        return await client.spawn(insist("udp://server:7", b"hello")).join()

    assert sim.World(1, faults="none").run(scenario) == 1
