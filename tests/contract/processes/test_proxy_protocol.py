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
    cases_by_engine,
    receive_all,
    receive_exactly,
    reset,
    wait_until,
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
def test_the_peer_is_the_real_client(start_server, tmp_path, header, peer):
    server = start(start_server, tmp_path)
    with server.connect() as client:
        ours = client.getsockname()
        client.sendall(header + b"hello")
        told = json.loads(receive_all(client))
    if peer is None:
        assert told == [list(ours), None, 5, 5]
    else:
        assert told == [peer if isinstance(peer, str) else list(peer), list(ours), 5, 5]


def test_every_engine_echoes_what_follows_and_nothing_of_the_header(engine, start_server, tmp_path):
    server = start(start_server, tmp_path, engine=engine, handler="echo")
    data = bytes(range(256)) * 1000
    for header in (encode_v1(CLIENT, SERVER), encode_v2(CLIENT, SERVER)):
        assert server.ask(header + data) == data
        # And a byte at a time.
        with server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header + b"hello":
                client.sendall(bytes((byte,)))
            assert receive_exactly(client, 5) == b"hello"


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


@pytest.mark.parametrize(("engine", "case"), cases_by_engine(NO_HEADERS, "http"))
def test_what_is_no_header_is_closed_with_one_line(engine, start_server, tmp_path, case):
    data, says = case
    server = start(start_server, tmp_path, engine=engine)
    server.expected_errors = ["bad PROXY header"]
    with server.connect() as client:
        client.sendall(data)
        assert _ends(client)
    server.wait_for(says.replace("(", "\\("))
    assert len(server.matching("bad PROXY header")) == 1


def _ends(client: socket.socket) -> bool:
    try:
        return receive_all(client) == b""
    except ConnectionResetError:
        return True


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


def test_a_header_that_does_not_come_in_time(engine, start_server, tmp_path):
    server = start(start_server, tmp_path, "--handshake-timeout", "300ms", engine=engine)
    server.expected_errors = ["bad PROXY header"]
    with server.connect() as client:
        client.sendall(b"PROXY TCP4 1.")
        assert _ends(client)
    server.wait_for("bad PROXY header.*took too long")


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


def test_the_client_is_announced_and_not_its_proxy(engine, start_server, tmp_path):
    server = start(start_server, tmp_path, engine=engine, handler="echo")
    assert server.ask(encode_v1(CLIENT, SERVER) + b"hello") == b"hello"
    server.wait_for(
        r"\('192.0.2.7', 4711\) via \('127.0.0.1', \d+\): done .* 5 bytes in, 5 bytes out"
    )
    assert len(server.matching("I got a connection from")) == 1
    assert server.matching(r"^I got a connection from \('192.0.2.7', 4711\)")


def test_a_drain_ends_a_header_that_does_not_come(concurrent_engine, start_server, tmp_path):
    server = start(start_server, tmp_path, engine=concurrent_engine)
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


def test_limits_are_of_the_real_client(start_server, tmp_path):
    server = start(
        *(start_server, tmp_path, "--per-source", "1", "--deny", "192.0.2.66"), handler="echo"
    )
    server.expected_errors = ["too many from its source", "denied"]
    with server.connect() as one, server.connect() as other, server.connect() as same:
        for client, source in ((one, "192.0.2.1"), (other, "192.0.2.2")):
            client.sendall(encode_v1((source, 1), SERVER) + b"hello")
            assert receive_exactly(client, 5) == b"hello"
        same.sendall(encode_v1(("192.0.2.1", 2), SERVER) + b"hello")
        assert _ends(same)
        server.wait_for(r"\('192.0.2.1', 2\).*too many from its source")
    with server.connect() as denied:
        denied.sendall(encode_v1(("192.0.2.66", 2), SERVER) + b"hello")
        assert _ends(denied)
        server.wait_for(r"\('192.0.2.66', 2\).*denied")
    # The place of the first is free again.
    wait_until(lambda: server.fds() <= server.base_fds, "all have left")
    assert server.ask(encode_v1(("192.0.2.1", 3), SERVER) + b"hello") == b"hello"


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
