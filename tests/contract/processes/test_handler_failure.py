"""Contract 5: a handler that fails is reported once; its client sees EOF, others live on.

Each by itself: `simulated/test_failures.py`.
"""

from __future__ import annotations

import socket

import pytest

from tests.harness import exchange, receive_all, receive_exactly

FAILURE = r"the handler failed for \('127.0.0.1', (\d+)\)"
ASKED_FOR = ["the handler failed", "Traceback"]


def test_a_failure_is_logged_once_and_others_live_on(engine, start_server):
    """And nothing is left behind. The trap: a failed task holds its socket through its
    traceback."""
    server = start_server("lines", "--fail-on", "boom", engine=engine)
    server.expected_errors += ASKED_FOR
    with server.connect() as client:
        port = client.getsockname()[1]
        client.sendall(b"hello\r\n")
        assert receive_exactly(client, 7) == b"hello\r\n"
        client.sendall(b"boom\r\n")
        assert receive_all(client) == b""
    assert int(server.wait_for(FAILURE)[1]) == port
    server.wait_for("Failure: the client sent the line 'boom'")
    assert server.ask(b"next\n") == b"next\n"
    assert len(server.matching(FAILURE)) == 1
    assert len(server.matching("Traceback")) == 1
    bystander = None if engine == "blocking" else server.connect()
    for _ in range(100):
        assert server.ask(b"boom\n") == b""
        if bystander is not None:
            bystander.sendall(b"still here\n")
            assert receive_exactly(bystander, 11) == b"still here\n"
    if bystander is not None:
        bystander.close()
    server.wait_for("handler failed after", times=101)
    server.wait_until_idle()


OWN = """
import anysock

async def handler(connection):
    line = await connection.recv_line()
    if not line.strip():
        return 1 / len(line.strip())
    async with await anysock.connect("127.0.0.1:1") as other:
        await other.send_all(line)
"""


def test_a_handler_of_ones_own_may_fail_in_its_own_way(engine, start_server, tmp_path):
    """ConnectionRefusedError of a connect that the handler made is not this peer's reset."""
    (tmp_path / "mine.py").write_text(OWN)
    server = start_server("mine:handler", engine=engine, cwd=tmp_path)
    server.expected_errors += ASKED_FOR
    assert server.ask(b"\n") == b""
    server.wait_for("ZeroDivisionError")
    assert server.ask(b"hello\n") == b""
    server.wait_for("ConnectionRefusedError|Connection refused")


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_a_fault_is_matched_on_a_line_and_not_on_a_chunk(engine, start_server):
    server = start_server("echo", "--fail-on", "boom", engine=engine)
    server.expected_errors += ASKED_FOR
    for harmless in (b"boom box\n", b"kaboom\n", b"boo", b"boom\r\r\n", b"BOOM\n"):
        assert server.ask(harmless) == harmless
    # What came before the line is echoed, in the same packet or not.
    assert server.ask(b"hello\r\nboom\r\nnever") == b"hello\r\n"
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"hello\nbo")
        assert receive_exactly(client, 8) == b"hello\nbo"
        client.sendall(b"om\n")
        assert receive_all(client) == b""
    server.wait_for(FAILURE, times=2)
    assert len(server.matching(FAILURE)) == 2


def test_bytes_that_are_no_utf_8_are_taken_as_they_are(start_server):
    server = start_server("lines", "--prefix", "\udcff>", "--fail-on", "\udcfe")
    server.expected_errors += ["handler failed", "Traceback"]
    with server.connect() as client:
        assert exchange(client, b"hello\n") == b"\xff>hello\n"
    with server.connect() as client:
        client.sendall(b"\xfe\n")
        server.wait_for(r"the client sent the line '\\\\xfe'")
