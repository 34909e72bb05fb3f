"""The programs of the how-to pages, as processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness import exchange, receive_exactly, wait_until

HOWTO = Path(__file__).parents[1] / "examples" / "howto"


def lines_until(client, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        data = client.recv(65536)
        assert data, received
        received += data
    return received


def test_chat(start_server):
    server = start_server("chat:chat", cwd=HOWTO)
    with server.connect() as anna, server.connect() as bob:
        anna.sendall(b"Anna\r\n")
        assert receive_exactly(anna, 11) == b"Your name? "
        bob.sendall(b"Bob\r\n")
        lines_until(anna, b"* Bob is here\r\n")
        bob.sendall(b"hello\r\n")
        lines_until(anna, b"Bob: hello\r\n")
        anna.sendall(b"hello yourself\r\n")
        assert b"Bob: hello" not in lines_until(bob, b"Anna: hello yourself\r\n")
        bob.close()
        lines_until(anna, b"* Bob has left\r\n")


def test_a_chat_client_that_does_not_read_must_leave_and_hurts_nobody(start_server):
    server = start_server("chat:chat", "--socket-buffer", "8KiB", cwd=HOWTO)
    server.expected_errors.append("aborted the connection")
    with server.connect() as deaf, server.connect() as anna, server.connect() as bob:
        for client, name in ((deaf, b"Deaf"), (anna, b"Anna"), (bob, b"Bob")):
            client.sendall(name + b"\r\n")
            lines_until(client, b"Your name? ")
        lines_until(anna, b"* Bob is here\r\n")
        hears = bob.makefile("rb")
        for number in range(400):
            anna.sendall(b"%d %s\r\n" % (number, b"x" * 30_000))
            while (line := hears.readline()) == b"* Deaf has left\r\n":
                pass
            assert line.startswith(b"Anna: %d " % number)
        lines_until(anna, b"* Deaf has left\r\n")
        hears.close()


def test_proxy(start_server):
    echo = start_server()
    target = {"PROXY_TARGET": f"127.0.0.1:{echo.port}"}
    proxy = start_server("proxy:proxy", cwd=HOWTO, environment=target)
    data = bytes(range(256)) * 8000
    with proxy.connect() as client:
        assert exchange(client, data) == data


def test_proxy_without_a_target_is_one_failure(start_server):
    proxy = start_server("proxy:proxy", cwd=HOWTO, environment={"PROXY_TARGET": "127.0.0.1:1"})
    proxy.expected_errors += ["failed", "Traceback", "ConnectionRefusedError"]
    with proxy.connect() as client:
        assert client.recv(1) == b""
    wait_until(lambda: "ConnectionRefusedError" in proxy.log, "the failure is told")


def test_line_protocol(start_server):
    server = start_server("counter:counter", cwd=HOWTO)
    assert server.ask(b"ADD a 2\r\nADD a 3\nGET a\r\nSING\r\nQUIT\r\nGET a\r\n") == (
        b"OK\r\nOK\r\n5\r\nERR use ADD NAME NUMBER, GET NAME or QUIT\r\n"
    )


def test_the_tests_that_are_shown_pass():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_counter.py"],
        cwd=HOWTO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
