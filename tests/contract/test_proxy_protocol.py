"""--proxy-protocol: the real client's address, from a proxy that may tell it alone."""

from __future__ import annotations

import json
import socket

import pytest

from anysock.net.proxy_protocol import encode_v1, encode_v2
from tests.harness import ServerProcess, receive_all, receive_exactly, wait_until

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


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no PROXY header: it begins with b'GET /"),
        (b"hello\r\n" * 3, "no PROXY header: it begins with b'hello"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", "no port in the PROXY line"),
        (encode_v2(CLIENT, SERVER)[:12] + b"\x31" + bytes(20), "PROXY version 3 is unknown"),
    ],
    ids=["http", "text", "v1", "v2"],
)
def test_what_is_no_header_is_closed_with_one_line(engine, start_server, tmp_path, data, says):
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


def test_who_is_no_proxy_is_closed_whatever_it_says(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(WHO)
    server = start_server(
        *("mine:who", "--proxy-protocol", "required", "--proxy-from", "192.0.2.0/24"),
        cwd=tmp_path,
    )
    server.expected_errors = ["bad PROXY header"]
    with server.connect() as client:
        client.sendall(encode_v1(CLIENT, SERVER) + b"hello")
        assert _ends(client)
    server.wait_for("none of the proxies")


def test_a_header_that_does_not_come_in_time(engine, start_server, tmp_path):
    server = start(start_server, tmp_path, "--handshake-timeout", "300ms", engine=engine)
    server.expected_errors = ["bad PROXY header"]
    with server.connect() as client:
        client.sendall(b"PROXY TCP4 1.")
        assert _ends(client)
    server.wait_for("bad PROXY header.*took too long")


def test_a_health_check_that_only_connects_makes_no_noise(start_server, tmp_path):
    server = start(start_server, tmp_path)
    server.connect().close()
    server.wait_for("closed before its first byte")
    assert not server.matching("^(warning|error)")


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
