"""--proxy-protocol: whose address is told, in whatever pieces the header comes, and when it must.

With real clients, once under each engine: `processes/test_proxy_protocol.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from anysock import CloseReason, Connection
from anysock.net.proxy_protocol import encode_v1, encode_v2
from tests.simulation import receive_all, serving, simulate

CLIENT = ("192.0.2.7", 4711)
CLIENT6 = ("2001:db8::7", 4711, 0, 0)
SERVER = ("198.51.100.1", 7)
SERVER6 = ("2001:db8::1", 7, 0, 0)

REQUIRED: dict[str, Any] = {"proxy_protocol": "required", "proxy_from": "10.0.0.0/8"}


def who(told: list[Any]) -> Any:
    async def handler(connection: Connection) -> None:
        first = await connection.recv_exactly(5)
        told.extend((connection.peer, connection.via, connection.bytes_received, first))

    return handler


async def ended(client: Connection) -> bool:
    """Whether it ends without a byte, be it by a reset."""
    with contextlib.suppress(ConnectionResetError):
        return await receive_all(client) == b""
    return True


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (encode_v1(CLIENT, SERVER), CLIENT),
        (encode_v1(CLIENT6, SERVER6), CLIENT6),
        (encode_v2(CLIENT, SERVER, [(1, b"h2")], checksum=True), CLIENT),
        (encode_v2(CLIENT6, SERVER6), CLIENT6),
        (encode_v2("/run/client", "/run/server"), "/run/client"),
        (encode_v2(None, None), None),
        (b"PROXY UNKNOWN\r\n", None),
    ],
    ids=["v1", "v1-ipv6", "v2", "v2-ipv6", "v2-unix", "v2-local", "v1-unknown"],
)
@pytest.mark.parametrize("size", [1000, 7, 1])
def test_the_peer_is_the_real_client(header, peer, size):
    told: list[Any] = []

    async def scenario(world):
        async with serving(world, who(told), **REQUIRED) as running:
            async with await running.connect() as client:
                ours = client.local
                data = header + b"hello"
                for start in range(0, len(data), size):
                    await client.send_all(data[start : start + size])
                    await world.sleep(0.001)
                assert await client.recv() == b""
            return ours

    ours = simulate(scenario)
    assert told == [peer or ours, None if peer is None else ours, 5, b"hello"]


NO_HEADERS = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no PROXY header: it begins with b'GET /"),
    "text": (b"hello\r\n" * 3, "no PROXY header: it begins with b'hello"),
    "v1": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", "PROXY line: '1.2.3.4 99999'"),
    "v2": (encode_v2(CLIENT, SERVER)[:12] + b"\x31" + bytes(20), "PROXY version 3 is unknown"),
    "long": (
        encode_v2(CLIENT, SERVER, [(0xE0, bytes(4096))]),
        "PROXY header of 4127 bytes: the most",
    ),
}


@pytest.mark.parametrize("case", NO_HEADERS)
def test_what_is_no_header_is_closed_with_one_line(case):
    data, says = NO_HEADERS[case]

    async def scenario(world):
        async with serving(world, **REQUIRED) as running, await running.connect() as client:
            running.expected_errors.append("bad PROXY header")
            await client.send_all(data)
            assert await ended(client)
            assert says in running.line("bad PROXY header").string
            assert running.told.reasons == [CloseReason.PROXY_HEADER]

    simulate(scenario)


def test_who_is_no_proxy_is_closed_whatever_it_says():
    async def scenario(world):
        options = REQUIRED | {"proxy_from": "192.0.2.0/24"}
        async with serving(world, **options) as running, await running.connect() as client:
            running.expected_errors.append("bad PROXY header")
            # It may be reset before it has sent that.
            with contextlib.suppress(ConnectionError):
                await client.send_all(encode_v1(CLIENT, SERVER) + b"hello")
            assert await ended(client)
            assert running.line("none of the proxies")

    simulate(scenario)


@pytest.mark.parametrize("limit", [0.3, 300])
@pytest.mark.parametrize("every", [0, 0.1], ids=["silent", "drips"])
def test_a_header_that_does_not_come_in_time(limit, every):
    """However its bytes come."""

    async def scenario(world):
        options = REQUIRED | {"handshake_timeout": limit}
        async with serving(world, **options) as running, await running.connect() as client:
            running.expected_errors.append("bad PROXY header")
            began = world.now
            await client.send_all(b"PROXY TCP4 1.")
            with contextlib.suppress(ConnectionError):
                while every:
                    await world.sleep(every * limit)
                    await client.send_all(b"1")
            assert await ended(client)
            assert limit <= world.now - began <= limit * (1 + 2 * every) + 0.01
            assert running.line("bad PROXY header.*took too long")

    simulate(scenario)


@pytest.mark.parametrize("header", [b"", encode_v2(None, None)], ids=["", "header"])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("after", [0, 0.0003, 1])
def test_health_checks_make_no_noise(header, resets, after):
    """What load balancers do once a second, and for ever: look whether somebody is there."""

    async def scenario(world):
        async with serving(world, **REQUIRED) as running:
            client = await running.connect()
            await client.send_all(header)
            await world.sleep(after)
            if resets:
                client.abort()
            await client.close()
            await running.until_closed()
            assert running.line("has ended: closed before its first byte")
            assert not running.news

    simulate(scenario)


def test_the_client_is_announced_and_not_its_proxy():
    async def scenario(world):
        async with serving(world, **REQUIRED) as running:
            assert await running.ask(encode_v1(CLIENT, SERVER) + b"hello") == b"hello"
            via = r"\('192.0.2.7', 4711\) via \('10.0.0.1', \d+\)"
            assert running.line(via + ": done .* 5 bytes in, 5 bytes out")
            assert running.line(r"^I got a connection from \('192.0.2.7', 4711\)")

    simulate(scenario)


def test_a_drain_ends_a_header_that_does_not_come():
    async def scenario(world):
        async with serving(world, **REQUIRED) as running:
            silent, slow = [await running.connect() for _ in range(2)]
            await slow.send_all(b"PROXY TCP4")
            await world.sleep(0.01)
            began = world.now
            running.signal()
            assert await ended(silent)
            assert await ended(slow)
            assert await running.ended() == 0
            assert world.now - began < 0.6
            assert len(running.matching("has ended: drained")) == 2
            for client in (silent, slow):
                await client.close()

    simulate(scenario)


def test_limits_are_of_the_real_client():
    async def scenario(world):
        options = REQUIRED | {"per_source": 1, "deny": "192.0.2.66"}
        async with serving(world, **options) as running:
            running.expected_errors += ["too many from its source", "denied"]
            one, other, same, denied = [await running.connect() for _ in range(4)]
            for client, source in ((one, "192.0.2.1"), (other, "192.0.2.2")):
                await client.send_all(encode_v1((source, 1), SERVER) + b"hello")
                assert await client.recv_exactly(5) == b"hello"
            for client, source in ((same, "192.0.2.1"), (denied, "192.0.2.66")):
                await client.send_all(encode_v1((source, 2), SERVER) + b"hello")
                assert await ended(client)
            assert running.line(r"\('192.0.2.1', 2\).*too many from its source")
            assert running.line(r"closed .*\('192.0.2.66', 2\).*denied")
            for client in (one, other, same, denied):
                await client.close()
            # The place of the first is free again.
            await running.until_closed(4)
            assert await running.ask(encode_v1(("192.0.2.1", 3), SERVER) + b"hello") == b"hello"

    simulate(scenario)
