"""How a server lives and ends within a program: entered once, cancelled, short of memory, draining
with its limits."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Server
from anysock.engines.current import current_engine
from anysock.server.session import Session
from tests.contract.in_process.test_streams import receive_all
from tests.harness import PATIENCE
from tests.told import Told


async def refused(address):
    try:
        await (await anysock.connect(address)).close()
    except OSError:
        return True
    return False


def test_who_cancels_serve_forever_ends_the_server(concurrent_engine):
    async def main():
        server = Server("echo", bind="127.0.0.1:0", drain_timeout=PATIENCE)
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        client = await anysock.connect(server.addresses[0])
        await client.send_all(b"hello")
        assert await client.recv_exactly(5) == b"hello"
        serving.cancel()
        with pytest.raises(anysock.Cancelled):
            await serving.join()
        assert server.connections == []
        assert await client.recv() == b"", "it was drained, and not reset"
        assert await refused(server.addresses[0])
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_a_server_is_entered_once(concurrent_engine):
    async def main():
        server = Server("echo", bind="127.0.0.1:0")
        async with server:
            with pytest.raises(RuntimeError, match="make another"):
                await server.serve_forever()
            with pytest.raises(RuntimeError, match="make another"):
                async with server:
                    raise AssertionError("not reached")
            client = await anysock.connect(server.addresses[0])
            await client.send_all(b"still served")
            assert await client.recv_exactly(12) == b"still served"
            await client.close()
        with pytest.raises(RuntimeError, match="make another"):
            await server.serve_forever()

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("which", [0, 1])
def test_what_fails_for_one_client_makes_no_address_deaf(concurrent_engine, which, monkeypatch):
    """Whatever it is, at whichever address, and not only what accept(2) says."""
    failures = [MemoryError("no room for it"), RuntimeError("a bug"), OSError("out of threads")]

    async def main():
        told = Told()
        server = Server("echo", bind=["127.0.0.1:0", "127.0.0.1:0"], events=told)
        refusal = Session._refusal

        def scarce(session):
            if failures and server.addresses[which].endswith(f":{session.connection.local[1]}"):
                raise failures.pop()
            return refusal(session)

        monkeypatch.setattr(Session, "_refusal", scarce)
        async with server:
            while failures:
                with pytest.raises(ConnectionResetError):  # by the connect already, perhaps
                    async with await anysock.connect(server.addresses[which]) as client:
                        await client.recv()
            for address in server.addresses:
                client = await anysock.connect(address)
                await client.send_all(b"hello")
                assert await client.recv_exactly(5) == b"hello"
                await client.close()
        assert told.of("accept_failed")
        assert told.of("drained")[0][0] == 0

    anysock.run(main, engine=concurrent_engine)


def test_limits_of_time_hold_while_draining(concurrent_engine):
    async def main():
        told = Told()
        # Not before the drain has begun; and long before its deadline.
        options = anysock.ServeOptions(
            bind="127.0.0.1:0", write_timeout=1, drain_timeout=PATIENCE, socket_buffer=8192
        )
        async with Server("echo", options, events=told) as server:
            client: Any = await anysock.connect(server.addresses[0])
            sending = anysock.spawn(client.send_all(bytes(20_000_000)))
            while not (server.connections and server.connections[0].stream.sending):
                await anysock.sleep(0.01)
            began = current_engine().now()
            assert await server.drain() == 0
            assert current_engine().now() - began < PATIENCE / 2
            assert told.reasons == [CloseReason.WRITE_TIMEOUT]
            with pytest.raises(ConnectionError):
                await sending.join()
            await client.close()
        assert told.of("drained")[0][0] == 0

    anysock.run(main, engine=concurrent_engine)


STUBBORN = (CloseReason.LIFETIME, CloseReason.MAX_BYTES, CloseReason.IDLE)


@pytest.mark.parametrize("first", STUBBORN, ids=str)
def test_who_is_ended_and_then_aborted_is_told_as_one_thing(concurrent_engine, first):
    """The log, the counters and `Server.aborted`, which is the exit code, agree."""
    options: Any = {
        CloseReason.LIFETIME: {"max_lifetime": 0.1},
        CloseReason.MAX_BYTES: {"max_bytes": 10},
        CloseReason.IDLE: {"idle_timeout": 0.1},
    }[first]

    async def handler(connection):
        # Takes no notice of an end of the stream.
        await receive_all(connection)
        while True:
            await anysock.sleep(0.01)

    async def main():
        told = Told()
        async with Server(handler, bind="127.0.0.1:0", events=told, **options) as server:
            client = await anysock.connect(server.addresses[0])
            await client.send_all(b"x" * 20)
            while not server.connections:
                await anysock.sleep(0.01)
            await anysock.sleep(0.3)  # now it has been ended, for `first`
            aborted = await server.drain(0.3)
            await client.close()
        assert len(told.reasons) == 1
        [(told_aborted, _)] = told.of("drained")
        assert aborted == server.aborted == told_aborted == told.reasons.count(CloseReason.ABORTED)
        assert server.counters.closed[CloseReason.ABORTED] == aborted

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("faults", [{}, {"delay": 0.05}, {"delay": 0.05, "slice": 7}], ids=str)
def test_faults_do_not_change_what_a_limit_of_bytes_lets_through(concurrent_engine, faults):
    async def main():
        options = anysock.ServeOptions(bind="127.0.0.1:0", max_bytes=300, **faults)
        async with Server("lines", options) as server:
            client = await anysock.connect(server.addresses[0])
            for _ in range(3):
                await client.send_all(b"x" * 200 + b"\n")
            received = bytearray()
            # (What it has sent beyond, and nobody reads, may make the end a reset.)
            with contextlib.suppress(ConnectionError):
                while data := await client.recv():
                    received += data
            await client.close()
            return len(received)

    assert anysock.run(main, engine=concurrent_engine) == 300


def test_when_it_is_told_that_a_drain_begins_handlers_know_it(concurrent_engine):
    class Listener(anysock.Events):
        def drain_begun(self, connections: int, seconds: float) -> None:
            knew.extend(connection.draining for connection in server.connections)

    knew: list[bool] = []
    server = anysock.Server("echo", bind="127.0.0.1:0", events=Listener())

    async def main():
        async with server, await anysock.connect(server.addresses[0]) as client:
            await client.send_all(b"x")
            await client.recv_exactly(1)
            await server.drain()

    anysock.run(main, engine=concurrent_engine)
    assert knew == [True]
