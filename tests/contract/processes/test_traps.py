"""The traps that naive servers fall into, each a test."""

from __future__ import annotations

import socket

from tests.harness import receive_all, receive_exactly

PREFIX = ("--prefix", "Buffer: ")


def connect(server):
    client = server.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def test_a_crlf_split_over_two_reads_ends_one_line(engine, start_server):
    server = start_server("lines", *PREFIX, "-v", engine=engine)
    with connect(server) as client:
        client.sendall(b"hello\r")
        server.wait_for(r"I got data: b'hello\\r'")
        client.sendall(b"\n")
        assert receive_exactly(client, 15) == b"Buffer: hello\r\n"


def test_two_lines_in_one_packet_are_two_lines(engine, start_server):
    server = start_server("lines", *PREFIX, engine=engine)
    assert server.ask(b"one\r\ntwo\r\n") == b"Buffer: one\r\nBuffer: two\r\n"


def test_lf_only_clients_are_answered(engine, start_server):
    server = start_server("lines", *PREFIX, engine=engine)
    assert server.ask(b"one\ntwo\n") == b"Buffer: one\nBuffer: two\n"


def test_half_a_line_then_silence_then_the_rest(engine, start_server):
    server = start_server("lines", *PREFIX, "-v", engine=engine)
    with connect(server) as client:
        client.sendall(b"hel")
        server.wait_for("I got data: b'hel'")
        client.settimeout(0.2)
        try:
            assert not client.recv(1), "answered before the line was complete"
        except TimeoutError:
            pass
        client.settimeout(10)
        client.sendall(b"lo\r\n")
        assert receive_exactly(client, 15) == b"Buffer: hello\r\n"


def test_what_is_left_at_eof_is_answered_as_it_is(engine, start_server):
    server = start_server("lines", *PREFIX, engine=engine)
    assert server.ask(b"one\nrest") == b"Buffer: one\nrest"


def test_an_unterminated_line_is_cut_off_at_its_limit(engine, start_server):
    server = start_server("lines", "--max-line", "64KiB", engine=engine)
    server.expected_errors.append("line longer than 65536 bytes")
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


def test_a_line_of_just_the_limit_is_no_longer_than_it(engine, start_server):
    server = start_server("lines", "--max-line", "10", engine=engine)
    server.expected_errors.append("line longer than 10 bytes")
    for end in (b"\n", b"\r\n"):
        assert server.ask(b"0123456789" + end) == b"0123456789" + end
    assert server.ask(b"0123456789" + b"0\n") == b"error: line longer than 10 bytes\r\n"


def test_each_client_gets_its_own_answers(concurrent_engine, start_server):
    server = start_server("lines", engine=concurrent_engine)
    clients = [connect(server) for _ in range(20)]
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
