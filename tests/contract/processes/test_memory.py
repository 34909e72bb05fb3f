"""All connections together hold no more memory than they may."""

from __future__ import annotations

from typing import Any

import pytest

import anysock
from anysock import CloseReason, Connection, Server, connect
from anysock.net.certificates import client_context
from anysock.server import housekeeping
from tests.harness import PATIENCE
from tests.pki import Pki
from tests.told import Told

MOST = 5_000_000


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_beyond_it_those_are_ended_who_do_not_read(concurrent_engine, pki, tls, monkeypatch):
    monkeypatch.setattr(housekeeping, "MEMORY_SECONDS", 0.05)
    told = Told()
    options: dict[str, Any] = {"bind": "127.0.0.1:0", "max_memory": MOST, "socket_buffer": 16384}
    trust = None
    if tls:
        options |= {"bind": "tls://127.0.0.1:0", "tls_cert": pki.server.both}
        trust = client_context(pki.ca)

    async def handler(connection: Connection) -> None:
        async for word in connection:
            await connection.send_all(word if word == b"ping" else bytes(1_000_000))

    async def main():
        async with anysock.timeout(PATIENCE), Server(handler, events=told, **options) as server:
            [address] = server.addresses
            bystander = await connect(address, tls=trust)
            silent = [await connect(address, tls=trust) for _ in range(10)]
            for connection in silent:
                await connection.send_all(b"more than it reads")
            while not told.reasons or sum(each.held for each in server.connections) > MOST:
                await bystander.send_all(b"ping")
                assert await bystander.recv_exactly(4) == b"ping"
            assert told.reasons == [CloseReason.MEMORY] * len(told.reasons)
            assert 1 <= len(told.reasons) < 10, "some of them, and not the bystander"
            for connection in silent:
                connection.abort()
                await connection.close()
            await bystander.send_all(b"ping")
            assert await bystander.recv_exactly(4) == b"ping"
            await bystander.close()

    anysock.run(main, engine=concurrent_engine)


def test_it_is_told_why(start_server):
    server = start_server("chargen", "--max-memory", "1", "--socket-buffer", "4096")
    server.expected_errors.append("too much memory")
    with server.connect():
        server.wait_for("closed the connection from .*: too much memory")


def test_without_a_limit_nobody_is_ended(monkeypatch):
    """0 is no limit; and nobody looks then."""
    kept: list[str] = []
    monkeypatch.setattr(
        housekeeping.Housekeeping, "keep", lambda self, name, work: kept.append(name)
    )

    async def main():
        for most in (0, 1, None):
            async with Server("echo", bind="127.0.0.1:0", max_memory=most):
                pass

    anysock.run(main)
    assert kept.count("memory") == 2
