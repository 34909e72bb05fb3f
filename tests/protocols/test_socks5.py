"""The example of SOCKS5, with curl and ncat, and with requests that those never make."""

from __future__ import annotations

import socket
import socketserver

import pytest

from tests.harness import (
    CONCURRENT_ENGINES,
    exchange,
    free_port,
    receive_all,
    receive_exactly,
    reset,
)
from tests.protocols.conftest import run_client
from tests.protocols.targets import Counter, Page, target

GREETING, NO_PASSWORD = b"\x05\x01\x00", b"\x05\x00"


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving):
    with serving("socks5.py", request.param) as server:
        yield server


def connect_request(kind: int, address: bytes, port: int, command: int = 1) -> bytes:
    return bytes([5, command, 0, kind]) + address + port.to_bytes(2, "big")


LOOPBACK4 = 1, socket.inet_aton("127.0.0.1")
LOOPBACK6 = 4, socket.inet_pton(socket.AF_INET6, "::1")


def test_curl(server):
    with target(Page) as port:
        for scheme in ("socks5", "socks5h"):
            proxy = f"{scheme}://127.0.0.1:{server.port}"
            url = f"http://localhost:{port}/"
            assert run_client("curl", "-sS4", "--proxy", proxy, url) == "a page"


def test_ncat_and_its_half_close(server):
    with target(Counter) as port:
        proxy = ("--proxy-type", "socks5", "--proxy", f"127.0.0.1:{server.port}")
        data = b"x" * 3_000_000
        assert run_client("ncat", *proxy, "127.0.0.1", str(port), say=data) == "3000000 bytes"


def test_ipv6_and_a_client_that_does_not_wait_for_answers(server):
    with target(Counter, socket.AF_INET6) as port:
        answer = server.ask(GREETING + connect_request(*LOOPBACK6, port) + b"and data")
    assert answer.startswith(NO_PASSWORD + b"\x05\x00\x00\x04" + LOOPBACK6[1])
    assert answer.endswith(b"8 bytes")


def test_what_can_not_be_done_is_answered(server):
    for request, reply in (
        (connect_request(*LOOPBACK4, free_port()), 5),  # refused
        (connect_request(3, b"\x0cname.invalid", 80), 4),
        (connect_request(3, b"\x0bunix:///a.s", 80), 8),  # no name
        (connect_request(*LOOPBACK4, 25), 2),  # forbidden
        (connect_request(*LOOPBACK4, 80, command=2), 7),
        (connect_request(9, b"", 80), 8),  # an unknown kind of address
    ):
        answer = server.ask(GREETING + request)
        assert answer == NO_PASSWORD + bytes([5, reply]) + b"\0\x01" + bytes(6), request


def test_a_client_that_offers_nothing_that_fits(server):
    assert server.ask(b"\x05\x01\x02") == b"\x05\xff"
    assert server.ask(b"\x04\x01\0\x50\x7f\0\0\x01\0") == b""  # SOCKS4


def test_a_reset_is_carried_over(server):
    server.expected_errors.append("aborted the connection")

    class Resets(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1)
            reset(self.request)

    with target(Resets) as port, server.connect() as client:
        client.sendall(GREETING + connect_request(*LOOPBACK4, port))
        receive_exactly(client, 12)
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            receive_all(client)


def test_a_password(serving, concurrent_engine):
    with serving("socks5.py", concurrent_engine, "--user", "anna:secret") as server:
        with target(Page) as port:
            url = f"http://127.0.0.1:{port}/"
            proxy = f"socks5h://anna:secret@127.0.0.1:{server.port}"
            assert run_client("curl", "-sS", "--proxy", proxy, url) == "a page"
            wrong = f"socks5h://anna:wrong@127.0.0.1:{server.port}"
            run_client("curl", "-sS", "--proxy", wrong, url, code=97)  # CURLE_PROXY
        with server.connect() as client:
            assert exchange(client, GREETING) == b"\x05\xff"


def test_a_drain_ends_what_is_at_rest(serving, concurrent_engine):
    with serving("socks5.py", concurrent_engine) as server, target(Counter) as port:
        with server.connect() as client:
            client.sendall(GREETING + connect_request(*LOOPBACK4, port) + b"four")
            receive_exactly(client, 12)
            server.signal()
            assert receive_all(client) == b"4 bytes"
        assert server.wait() == 0
