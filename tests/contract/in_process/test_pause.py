"""Accepting can be paused and resumed at run time, and nobody is lost; and how a server ends."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack

import pytest

import anysock
from anysock import CloseReason, ServeOptions, Server, connect, move_on_after
from anysock.engines.current import current_engine
from tests.told import Told


def of_the_server(told: Told) -> list[str]:
    """The events of pausing and ending."""
    return [name for name, _ in told.events if name.startswith(("accepting", "drain"))]


async def clients_of(server: Server, number: int, stack: AsyncExitStack):
    """So many clients, each of which has said something."""
    clients = [
        await stack.enter_async_context(await connect(server.addresses[0])) for _ in range(number)
    ]
    for client in clients:
        await client.send_all(b"hello")
    return clients


async def is_served(client, seconds: float = 10) -> bool:
    async with move_on_after(seconds):
        return bool(await client.recv_exactly(5) == b"hello")
    return False


def test_who_connects_while_paused_waits_and_is_served_after(concurrent_engine):
    told = Told()

    async def main():
        async with (
            Server("echo", bind="127.0.0.1:0", events=told) as server,
            AsyncExitStack() as stack,
        ):
            [before] = await clients_of(server, 1, stack)
            assert await is_served(before)
            server.pause()
            server.pause()
            assert server.unready == "accepting is paused"
            clients = await clients_of(server, 30, stack)
            assert not await is_served(clients[0], 0.2)
            assert not await is_served(clients[-1], 0.05)
            assert len(server.connections) == 1
            await before.send_all(b"hello")
            assert await is_served(before), "who is connected goes on"
            server.resume()
            server.resume()
            assert server.unready is None
            assert [await is_served(client) for client in clients] == 30 * [True]
            for client in [before, *clients]:
                await client.send_eof()
                assert await client.recv() == b""
            return server.counters

    counters = anysock.run(main, engine=concurrent_engine)
    assert counters.accepted == 31
    assert counters.closed == {CloseReason.DONE: 31}
    pause = ["accepting_paused", "accepting_resumed"]
    assert of_the_server(told) == [*pause, "drain_begun", "drained"]


def test_other_threads_may_pause_and_resume(concurrent_engine):
    async def main():
        async with Server("echo", bind="127.0.0.1:0") as server, AsyncExitStack() as stack:

            def do(func) -> None:
                thread = threading.Thread(target=func)
                thread.start()
                thread.join()

            served = 0
            for _ in range(3):
                do(server.pause)
                clients = await clients_of(server, 5, stack)
                assert not await is_served(clients[-1], 0.05)
                do(server.resume)
                # At once, and not when somebody happens to look.
                served += sum([await is_served(client, 0.8) for client in clients])
            return served

    assert anysock.run(main, engine=concurrent_engine) == 15


def test_to_pause_again_and_again_loses_nobody(concurrent_engine):
    async def main():
        async with Server("echo", bind="127.0.0.1:0", max_connections=10) as server:
            over = threading.Event()

            def toggle() -> None:
                while not over.wait(0.001):
                    server.pause()
                    over.wait(0.001)
                    server.resume()

            toggler = threading.Thread(target=toggle)
            toggler.start()
            try:
                served = 0
                for _ in range(10):
                    async with AsyncExitStack() as stack:
                        clients = await clients_of(server, 15, stack)
                        for client in clients:
                            served += await is_served(client)
                            await client.close()
            finally:
                over.set()
                toggler.join()
            return served

    assert anysock.run(main, engine=concurrent_engine) == 150


def test_a_drain_serves_who_has_waited_for_the_end_of_a_pause(concurrent_engine):
    async def main():
        stack = AsyncExitStack()
        async with stack:
            async with Server("echo", bind="127.0.0.1:0") as server:
                server.pause()
                clients = await clients_of(server, 10, stack)
                assert not await is_served(clients[0], 0.1)
            # The block has drained it.
            answers = [await client.recv_exactly(5) for client in clients]
            ends = [await client.recv() for client in clients]
        return answers, ends, server.aborted, server.counters

    answers, ends, aborted, counters = anysock.run(main, engine=concurrent_engine)
    assert answers == 10 * [b"hello"]
    assert ends == 10 * [b""]
    assert aborted == 0
    assert counters.closed == {CloseReason.DRAINED: 10}


def test_a_pause_before_the_start_holds_and_after_the_end_nothing_matters(concurrent_engine):
    async def main():
        server = Server("echo", bind="127.0.0.1:0")
        server.pause()
        server.resume()
        server.pause()
        async with AsyncExitStack() as stack:
            async with server:
                [client] = await clients_of(server, 1, stack)
                assert not await is_served(client, 0.1)
                server.resume()
                assert await is_served(client)
            server.pause()
        return server

    server = anysock.run(main, engine=concurrent_engine)
    server.resume()
    assert server.unready == "draining"


def test_a_pause_changes_nothing_about_the_limit(concurrent_engine):
    async def main():
        async with (
            Server("echo", bind="127.0.0.1:0", max_connections=2) as server,
            AsyncExitStack() as stack,
        ):
            server.pause()
            clients = await clients_of(server, 5, stack)
            server.resume()
            served = 0
            for client in clients:
                assert await is_served(client)
                served += 1
                assert len(server.connections) <= 2
                await client.close()
            return served

    assert anysock.run(main, engine=concurrent_engine) == 5


@pytest.mark.parametrize("overflow", ["wait", "close"])
def test_nobody_is_closed_because_of_a_pause(concurrent_engine, overflow):
    async def main():
        async with (
            Server("echo", bind="127.0.0.1:0", overflow=overflow) as server,
            AsyncExitStack() as stack,
        ):
            server.pause()
            clients = await clients_of(server, 5, stack)
            assert not await is_served(clients[0], 0.1)
            server.resume()
            return [await is_served(client) for client in clients]

    assert anysock.run(main, engine=concurrent_engine) == 5 * [True]


# -- ending -------------------------------------------------------------------------------------


def test_to_end_twice_is_to_end_once(concurrent_engine):
    """An orchestrator that asks for it, and then sends SIGTERM, must not cut the delay short."""
    told = Told()

    async def main():
        engine = current_engine()
        options = ServeOptions(bind="127.0.0.1:0", drain_delay=0.4, drain_timeout=5)
        async with Server("echo", options, events=told) as server:
            began = engine.now()
            first = engine.spawn(server.end())
            await anysock.sleep(0.05)
            assert server.unready == "draining"
            second = engine.spawn(server.end())
            await anysock.sleep(0.05)
            # It accepts for the whole delay.
            async with AsyncExitStack() as stack:
                [client] = await clients_of(server, 1, stack)
                assert await is_served(client)
            assert [await first.join(), await second.join(), await server.end()] == [0, 0, 0]
            return engine.now() - began

    assert anysock.run(main, engine=concurrent_engine) >= 0.4
    assert of_the_server(told) == ["drain_delayed", "drain_begun", "drained"]


def test_to_drain_within_the_delay_is_to_drain_now(concurrent_engine):
    async def main():
        engine = current_engine()
        options = ServeOptions(bind="127.0.0.1:0", drain_delay=3, drain_timeout=60)
        async with Server("echo", options) as server:
            ending = engine.spawn(server.end())
            await anysock.sleep(0)
            began = engine.now()
            await server.drain()
            took = engine.now() - began
            ending.cancel()
            return took

    assert anysock.run(main, engine=concurrent_engine) < 3


@pytest.mark.parametrize("end", ["retire", "drain"])
def test_a_full_server_that_ends_serves_who_has_waited_when_there_is_room(concurrent_engine, end):
    """The number of connections is exact to the end; who is in the backlog by then is not lost."""

    async def main():
        engine = current_engine()
        async with (
            Server("echo", bind="127.0.0.1:0", max_connections=1) as server,
            AsyncExitStack() as stack,
        ):
            first, second, third = await clients_of(server, 3, stack)
            assert await is_served(first)
            ending = engine.spawn(getattr(server, end)())
            if end == "retire":
                assert not await is_served(second, 0.1)
                await first.send_all(b"hello")
                assert await is_served(first), "to retire is not to drain"
                await first.send_eof()
            assert await first.recv() == b""
            assert await is_served(second)
            assert len(server.connections) == 1
            await second.send_eof()
            assert await second.recv() == b""
            assert await is_served(third)
            await third.send_eof()
            assert await third.recv() == b""
            return await ending.join(), server.counters.waited["max_connections"]

    aborted, waited = anysock.run(main, engine=concurrent_engine)
    assert aborted == 0
    # An acceptor on a thread of its own may look for the third only when the second has left.
    assert waited in (1, 2)


def test_who_still_waits_for_room_when_a_drain_is_over_is_aborted(concurrent_engine):
    async def stubborn(connection):
        await connection.recv()
        await anysock.sleep(60)

    async def main():
        async with (
            Server(stubborn, bind="127.0.0.1:0", max_connections=1) as server,
            AsyncExitStack() as stack,
        ):
            _first, second, third = await clients_of(server, 3, stack)
            while not server.connections:
                await anysock.sleep(0.005)
            assert await server.drain(0.3) == 3
            for client in (second, third):
                with pytest.raises(ConnectionResetError):
                    await client.recv()
            return server.counters

    counters = anysock.run(main, engine=concurrent_engine)
    assert counters.accepted == counters.closed[CloseReason.ABORTED] == 3
