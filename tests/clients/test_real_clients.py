"""Sessions with the clients that people have: telnet, ncat, socat."""

from __future__ import annotations

import os
import subprocess

from tests.harness import PATIENCE, need, wait_until


class Session:
    """A client with pipes, whose output can be waited for."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.shown = b""

    def type(self, words: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def read_until(self, words: bytes) -> None:
        def look() -> bool:
            assert self.process.stdout is not None
            self.shown += self.process.stdout.read() or b""
            return words in self.shown

        wait_until(look, f"{words!r} in what the client shows: {self.shown!r}")

    def end(self) -> int:
        with self.process:
            return self.process.wait(PATIENCE)


def test_telnet(engine, start_server):
    """Rung S14 of the ladder."""
    server = start_server("lines", "--prefix", "Buffer: ", engine=engine)
    session = Session(need("telnet"), "127.0.0.1", str(server.port))
    session.read_until(b"Trying 127.0.0.1...")
    session.read_until(b"Connected to 127.0.0.1.")
    session.read_until(b"Escape character is '^]'.")
    session.type(b"hello\n")
    session.read_until(b"Buffer: hello")
    session.type(b"and again\n")
    session.read_until(b"Buffer: and again")
    server.signal()  # the server goes: the connection is at rest, and is ended
    session.read_until(b"Connection closed by foreign host.")
    session.end()
    assert server.wait() == 0


def test_telnet_to_daytime(engine, start_server):
    server = start_server("daytime", engine=engine)
    session = Session(need("telnet"), "127.0.0.1", str(server.port))
    session.read_until(b"-UTC")
    session.read_until(b"Connection closed by foreign host.")
    session.end()


def run(*command: str, say: bytes = b"") -> bytes:
    done = subprocess.run(command, input=say, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ncat(engine, start_server):
    server = start_server(engine=engine)
    ncat = need("ncat")
    assert run(ncat, "127.0.0.1", str(server.port), say=b"hello\n") == b"hello\n"
    data = os.urandom(3_000_000)
    assert run(ncat, "127.0.0.1", str(server.port), say=data) == data


def test_socat(engine, start_server):
    server = start_server(engine=engine)
    socat = need("socat")
    target = f"TCP:127.0.0.1:{server.port}"
    # -t: how long socat waits for the rest once its own input has ended.
    assert run(socat, "-t", "30", "-", target, say=b"hello\n") == b"hello\n"
    data = os.urandom(3_000_000)
    assert run(socat, "-t", "30", "-", target, say=data) == data


def test_socat_as_a_proxy_in_between(engine, start_server):
    """Half-close must come through: the client's to the server, and the server's back."""
    server = start_server("lines", engine=engine)
    listening = "TCP-LISTEN:0,bind=127.0.0.1,fork"
    proxy = Session(
        need("socat"), "-t", "15", "-d", "-d", listening, f"TCP:127.0.0.1:{server.port}"
    )
    try:
        proxy.read_until(b"listening on")
        port = proxy.shown.split(b"127.0.0.1:")[1].split()[0].decode()
        ncat = need("ncat")
        assert run(ncat, "127.0.0.1", port, say=b"one\ntwo") == b"one\ntwo"
    finally:
        proxy.process.terminate()
        proxy.end()


def test_a_client_that_is_killed_is_no_news(engine, start_server):
    server = start_server(engine=engine)
    session = Session(need("ncat"), "127.0.0.1", str(server.port))
    session.type(b"hello\n")
    session.read_until(b"hello")
    session.process.kill()
    session.end()
    assert server.ask(b"next") == b"next"
