"""--proxy-protocol: the real client's address, from a proxy that may tell it alone."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from typing import Any

import pytest

import anysock
from anysock import CloseReason, Server, connect
from anysock.net.proxy_protocol import encode_v1, encode_v2
from tests.harness import (
    ServerProcess,
    receive_all,
    receive_exactly,
    reset,
)

CLIENT = ("192.0.2.7", 4711)
CLIENT6 = ("2001:db8::7", 4711, 0, 0)
SERVER = ("198.51.100.1", 7)
SERVER6 = ("2001:db8::1", 7, 0, 0)

WHO = """
import json
async def who(connection):
    first = await connection.recv()
    told = [connection.peer, connection.via, connection.bytes_received, len(first)]
    await connection.send_all(json.dumps(told).encode() + b"\\n")
"""


def start(start_server, tmp_path, *options: str, handler="mine:who", **more) -> ServerProcess:
    (tmp_path / "mine.py").write_text(WHO)
    server: ServerProcess = start_server(
        *(handler, "--proxy-protocol", "required", "--proxy-from", "127.0.0.0/8", *options),
        *("--log-level", "debug"),
        cwd=tmp_path,
        **more,
    )
    return server


def test_who_comes_through_a_proxy_and_who_does_not(engine, start_server, tmp_path):
    """Each by itself: `simulated/test_proxy_header.py`."""
    options = ("--handshake-timeout", "400ms")
    server = start(start_server, tmp_path, *options, engine=engine, handler="echo")
    server.expected_errors = ["bad PROXY header"]
    data = bytes(range(256)) * 1000
    for header in (encode_v1(CLIENT, SERVER), encode_v2(CLIENT, SERVER)):
        assert server.ask(header + data) == data
    server.wait_for(
        r"\('192.0.2.7', 4711\) via \('127.0.0.1', \d+\): done .* 256000 bytes in, 256000",
        times=2,
    )
    assert len(server.matching(r"^I got a connection from \('192.0.2.7', 4711\)$")) == 2
    assert len(server.matching("I got a connection from")) == 2
    # A byte at a time.
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in encode_v1(CLIENT, SERVER) + b"hello":
            client.sendall(bytes((byte,)))
        assert receive_exactly(client, 5) == b"hello"
    for data, says in (
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", r"no PROXY header: it begins with b'GET /"),
        (b"PROXY TCP4 1.", "took too long"),
    ):
        with server.connect() as client:
            client.sendall(data)
            assert _ends(client)
        server.wait_for(f"bad PROXY header.*{says}")
    assert len(server.matching("bad PROXY header")) == 2


def _ends(client: socket.socket) -> bool:
    try:
        return receive_all(client) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("engine", ["blocking", "threads", "selector"])
def test_who_is_no_proxy_is_closed_whatever_it_says(engine, start_server):
    options = ("--proxy-protocol", "required", "--proxy-from", "192.0.2.0/24")
    server = start_server("echo", *options, engine=engine)
    server.expected_errors = ["bad PROXY header"]
    # It may be reset before it has sent that, and even before it knows that it is connected.
    with contextlib.suppress(ConnectionResetError, BrokenPipeError), server.connect() as client:
        client.sendall(encode_v1(CLIENT, SERVER) + b"hello")
        assert receive_all(client) == b""
    server.wait_for("none of the proxies")
    assert len(server.matching("127.0.0.1', ")) == 2  # that it has come, and why it is closed


# What load balancers do once a second, and for ever: look whether somebody is there.
CHECKS = [
    (b"", socket.socket.close),
    (b"", reset),
    (encode_v2(None, None), socket.socket.close),
    (encode_v2(None, None), reset),
]


def test_health_checks_make_no_noise(engine, start_server, tmp_path):
    server = start(*(start_server, tmp_path, "--log-format", "json"), engine=engine, handler="echo")
    for header, leave in CHECKS:
        client = server.connect()
        client.sendall(header)
        leave(client)
    server.wait_for("has ended: closed before its first byte", times=len(CHECKS))
    told = [json.loads(line) for line in server.lines]
    assert not [each for each in told if "peer" in each and each["level"] != "debug"]


def test_a_check_in_version_1_names_the_proxy_itself(start_server, tmp_path):
    server = start(start_server, tmp_path)
    with server.connect() as client:
        ours = client.getsockname()
        client.sendall(encode_v1(ours, client.getpeername()) + b"hello")
        assert json.loads(receive_all(client)) == [list(ours), None, 5, 5]


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_a_drain_ends_a_header_that_does_not_come(engine, start_server, tmp_path):
    server = start(start_server, tmp_path, engine=engine)
    with server.connect() as silent, server.connect() as slow:
        slow.sendall(b"PROXY TCP4")
        # Both are accepted: who came later has been served.
        assert server.ask(encode_v1(CLIENT, SERVER) + b"hello")
        server.signal()
        assert _ends(silent)
        assert _ends(slow)
        assert server.wait() == 0
    assert len(server.matching("has ended: drained")) == 2


class Ends(anysock.Events):
    """Counts the starts, and the ends with their reasons."""

    def __init__(self) -> None:
        self.starts: Counter[object] = Counter()
        self.ends: Counter[tuple[object, CloseReason]] = Counter()

    def connection_opened(self, connection):
        self.starts[connection] += 1

    def connection_closed(self, connection, reason, error):
        self.ends[(connection, reason)] += 1


def test_each_connection_has_one_start_and_one_end(concurrent_engine):
    events = Ends()
    options: dict[str, Any] = {
        "proxy_protocol": "required",
        "proxy_from": "127.0.0.1",
        "deny": "192.0.2.66",
    }

    async def main():
        async with Server("echo", bind="127.0.0.1:0", events=events, **options) as server:
            for data, answer in (
                (encode_v1(CLIENT, SERVER) + b"hello", b"hello"),
                (encode_v2(None, None) + b"hello", b"hello"),
                (encode_v1(("192.0.2.66", 1), SERVER), b""),
                (b"hello\n", b""),
                (b"", b""),
            ):
                async with await connect(server.addresses[0]) as client:
                    await client.send_all(data)
                    try:
                        if not answer:
                            await client.send_eof()
                        assert await client.recv() == answer
                    except ConnectionResetError:
                        assert not answer

    anysock.run(main, engine=concurrent_engine)
    assert set(events.starts.values()) == set(events.ends.values()) == {1}
    assert Counter(reason for _, reason in events.ends) == {
        CloseReason.DONE: 2,
        CloseReason.DENIED: 1,
        CloseReason.PROXY_HEADER: 1,
        CloseReason.NO_DATA: 1,
    }


def test_on_a_unix_socket_its_permissions_say_who_is_a_proxy(concurrent_engine, tmp_path):
    options: dict[str, Any] = {"bind": f"unix://{tmp_path}/echo", "proxy_protocol": "required"}
    seen = []

    async def who(connection):
        seen.append((await connection.recv(), connection.peer, connection.via))

    async def main():
        async with (
            Server(who, **options) as server,
            await connect(server.addresses[0]) as client,
        ):
            await client.send_all(encode_v2(CLIENT, SERVER) + b"hello")
            assert await client.recv() == b""

    anysock.run(main, engine=concurrent_engine)
    assert seen == [(b"hello", CLIENT, "unix")]


def test_who_is_allowed_is_the_client_and_a_proxy_may_always_look(start_server, tmp_path):
    allow = ("--allow", "192.0.2.0/24", "--deny", "127.0.0.0/8", "--per-source", "1")
    server = start(start_server, tmp_path, *allow, handler="echo")
    server.expected_errors = ["denied"]
    assert server.ask(encode_v1(CLIENT, SERVER) + b"hello") == b"hello"
    with server.connect() as check, server.connect() as another:
        for each in (check, another):
            each.sendall(encode_v2(None, None) + b"hello")
            assert receive_exactly(each, 5) == b"hello"
    # But not who comes through it, and can't be told.
    with server.connect() as unknown:
        unknown.sendall(b"PROXY UNKNOWN\r\nhello")
        assert _ends(unknown)
    server.wait_for("warning: closed the connection from .*denied")


def test_clients_of_ipv4_on_a_socket_of_both_are_not_one_source(start_server, tmp_path):
    server = start(start_server, tmp_path, "--per-source", "1", handler="echo")
    server.expected_errors = ["too many from its source"]
    with server.connect() as one, server.connect() as other, server.connect() as same:
        for client, source in ((one, "::ffff:192.0.2.1"), (other, "::ffff:192.0.2.2")):
            client.sendall(encode_v1((source, 1), SERVER6) + b"hello")
            assert receive_exactly(client, 5) == b"hello"
        same.sendall(encode_v1(("192.0.2.1", 2), SERVER) + b"hello")
        assert _ends(same)
