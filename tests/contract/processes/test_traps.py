"""The traps that naive servers fall into, with real clients.

Each by itself, in whatever pieces and after whatever silence: `simulated/test_lines.py`.
"""

from __future__ import annotations

import socket

import pytest

from tests.harness import PATIENCE, receive_all, receive_exactly

PREFIX = ("--prefix", "Buffer: ")


def connect(server):
    client = server.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def test_lines_in_pieces(engine, start_server):
    server = start_server("lines", *PREFIX, "-v", engine=engine)
    with connect(server) as client:
        client.sendall(b"hello\r")
        server.wait_for(r"I got data: b'hello\\r'")
        client.sendall(b"\n")
        assert receive_exactly(client, 15) == b"Buffer: hello\r\n"
        client.sendall(b"hel")
        server.wait_for("I got data: b'hel'")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(PATIENCE)
        client.sendall(b"lo\r\n")
        assert receive_exactly(client, 15) == b"Buffer: hello\r\n"
    assert server.ask(b"one\r\ntwo\r\n") == b"Buffer: one\r\nBuffer: two\r\n"
    assert server.ask(b"one\ntwo\nrest") == b"Buffer: one\nBuffer: two\nrest"


def test_lines_that_are_too_long_and_those_of_several_clients(engine, start_server):
    server = start_server("lines", "--max-line", "64KiB", engine=engine)
    server.expected_errors.append("line longer than 65536 bytes")
    assert server.ask(b"y" * 65536 + b"\r\n") == b"y" * 65536 + b"\r\n"
    before = server.memory()
    with server.connect() as client:
        try:
            for _ in range(100):
                client.sendall(b"y" * 100_000)
        except (ConnectionError, TimeoutError):
            pass  # the server had enough
        else:
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"error: line longer than 65536 bytes\r\n"
    assert server.memory() - before < 4_000_000
    server.wait_for("line longer than 65536 bytes")
    assert len(server.matching("line longer than")) == 1
    clients = [connect(server) for _ in range(1 if engine == "blocking" else 20)]
    for round in range(5):
        for number, client in enumerate(clients):
            client.sendall(b"client %d, line %d\r\n" % (number, round))
    for number, client in enumerate(clients):
        expected = b"".join(b"client %d, line %d\r\n" % (number, round) for round in range(5))
        assert receive_exactly(client, len(expected)) == expected
        client.close()


def test_the_ladder_s2_to_s4_in_one_command(start_server):
    """``serve lines --engine blocking --recv-size 2 --prefix 'Buffer: ' -v``."""
    server = start_server("lines", "--recv-size", "2", *PREFIX, "-v", engine="blocking")
    with server.connect() as first, server.connect() as second:
        port = first.getsockname()[1]
        server.wait_for(rf"^I got a connection from \('127\.0\.0\.1', {port}\)$")
        second.sendall(b"second\r\n")
        first.sendall(b"hello\r\n")
        assert receive_exactly(first, 15) == b"Buffer: hello\r\n"
        for chunk in ("he", "ll", r"o\\r", r"\\n"):
            server.wait_for(f"^I got data: b'{chunk}'$")
        server.wait_for(r"^All the data is: b'hello\\r\\n'$")
        first.close()
        assert receive_exactly(second, 16) == b"Buffer: second\r\n"


def test_blocking_makes_the_second_client_wait(start_server):
    """Its point: while the first is silent, the second is connected, but gets nothing."""
    server = start_server(engine="blocking")
    with server.connect() as first, server.connect() as second:
        second.sendall(b"me too")
        second.settimeout(0.3)
        try:
            assert not second.recv(1), "the second client was served beside the first"
        except TimeoutError:
            pass
        assert len(server.matching("I got a connection")) == 1
        first.close()
        second.settimeout(10)
        assert receive_exactly(second, 6) == b"me too"
