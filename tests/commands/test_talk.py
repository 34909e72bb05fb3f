"""``anysock talk``: the telnet-like client, in a pipe and at a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time

import pytest

from tests import bad_servers, prepared
from tests.bad_servers import bad_server
from tests.harness import PATIENCE, receive_all, reset

TALK = [sys.executable, "-m", "anysock", "talk"]


def talk(*arguments: str, say: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return prepared.run(
        [*TALK, *arguments], input=say, capture_output=True, timeout=30, check=False
    )


def test_it_says_what_telnet_says(start_server):
    server = start_server("lines", "--prefix", "Buffer: ")
    done = talk(f"127.0.0.1:{server.port}", say=b"hello\n")
    assert done.stdout == b"Buffer: hello\r\n"
    assert done.stderr.decode().splitlines() == [
        "Trying 127.0.0.1...",
        "Connected to 127.0.0.1.",
        "Escape character is '^]'.",
        "Connection closed by foreign host.",
    ]
    assert done.returncode == 0


def test_ipv6(start_server):
    server = start_server(bind="[::1]:0")
    for address in ([f"[::1]:{server.port}"], ["::1", str(server.port)]):
        done = talk(*address, say=b"hello\n")
        assert done.stdout == b"hello\r\n"
        assert b"Trying ::1...\nConnected to ::1.\n" in done.stderr


def test_lines_go_out_with_crlf_or_with_lf(start_server):
    server = start_server()
    where = f":{server.port}"
    assert talk(where, say=b"one\ntwo\r\n").stdout == b"one\r\ntwo\r\n"
    assert talk("--lf", where, say=b"one\ntwo\r\n").stdout == b"one\ntwo\n"
    assert talk(where, say=b"no newline").stdout == b"no newline"
    assert talk(where, say=b"").stdout == b""


def test_10_mb_go_through_the_pipe(start_server):
    server = start_server()
    data = b"0123456789abcde\n" * 625_000
    assert talk("--lf", f":{server.port}", say=data).stdout == data


def test_what_comes_after_the_end_of_input_is_printed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = prepared.Popen(
            [*TALK, f":{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            assert process.stdin is not None
            process.stdin.write(b"question\n")
            process.stdin.close()
            process.stdin = None
            assert receive_all(peer) == b"question\r\n"  # the half-close has come
            peer.sendall(b"a late answer")
        out, err = process.communicate(timeout=PATIENCE)
    assert out == b"a late answer"
    assert err.endswith(b"Connection closed by foreign host.\n")
    assert process.returncode == 0


def test_it_ends_when_the_server_does_though_nobody_types():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = prepared.Popen(
            [*TALK, f":{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            peer, _ = listener.accept()
            peer.sendall(b"bye\r\n")
            peer.close()
            assert process.wait(PATIENCE) == 0
            assert process.stdout is not None
            assert process.stdout.read() == b"bye\r\n"


def test_refused_is_one_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = talk(f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "Trying 127.0.0.1...",
        f"anysock: can't connect to 127.0.0.1:{port}: Connection refused",
    ]


def test_an_unknown_host_is_one_line_and_exit_code_1():
    done = talk("no.such.host.invalid:7")
    assert done.returncode == 1
    assert b"can't resolve the host 'no.such.host.invalid'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["localhost", "http"]], ids=str)
def test_bad_usage_is_one_line_and_exit_code_2(arguments):
    done = talk(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_lost_connection_is_one_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = prepared.Popen(
            [*TALK, f":{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            peer, _ = listener.accept()
            peer.sendall(b"x")
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            reset(peer)
            assert process.wait(PATIENCE) == 1
            assert process.stderr is not None
            last = process.stderr.read().splitlines()[-1]
            assert last == b"anysock: the connection to 127.0.0.1 is lost: Connection reset by peer"


def test_ctrl_c_ends_it_without_a_traceback(start_server):
    server = start_server()
    process = prepared.Popen(
        [*TALK, f":{server.port}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        server.wait_for("I got a connection")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_a_reader_that_leaves_is_no_bug(start_server):
    """``anysock talk :19 | head -c 10``"""
    server = start_server("chargen")
    process = prepared.Popen(
        [*TALK, f":{server.port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(PATIENCE) == 1
        assert b"Traceback" not in process.stderr.read()


class Terminal:
    """A talk at a terminal of its own, and a person who types there."""

    def __init__(self, *arguments: str, term: str = "dumb", state: str = "/dev/null") -> None:
        environment = {**os.environ, "TERM": term, "XDG_STATE_HOME": state}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [*TALK, *arguments], environment)
        #: As the terminal is left: whether it hands over lines, and echoes.
        self.modes = 0
        self.shown = b""

    def read_until(self, words: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while words not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self.fd], [], [], 0.1)[0]:
                self.shown += os.read(self.fd, 4096)

    def type(self, words: bytes) -> None:
        os.write(self.fd, words)

    def wait(self) -> int:
        """Its exit code. Reads on, so that it can't get stuck on what it has to show."""
        stop = threading.Event()
        reader = threading.Thread(target=self._read_on, args=(stop,))
        reader.start()
        _, status = os.waitpid(self.pid, 0)
        stop.set()
        reader.join()
        self.modes = termios.tcgetattr(self.fd)[3]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def _read_on(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if select.select([self.fd], [], [], 0.05)[0]:
                    self.shown += os.read(self.fd, 4096)
            except OSError:
                return  # the other end is closed


def test_at_a_terminal(start_server):
    server = start_server("lines", "--prefix", "Buffer: ")
    terminal = Terminal(f":{server.port}")
    terminal.read_until(b"Escape character is '^]'.")
    terminal.type(b"hello\n")
    terminal.read_until(b"Buffer: hello")
    terminal.type(b"\x1d")  # ^], with no Return after it
    terminal.read_until(b"anysock> ")
    terminal.type(b"\n")
    terminal.type(b"on we go\n")
    terminal.read_until(b"Buffer: on we go")
    terminal.type(b"\x1d")
    terminal.type(b"quit\n")
    assert terminal.wait() == 0
    assert b"Connection closed.\r\n" in terminal.shown


@pytest.mark.parametrize("last", [b"quit\n", b"\x04"], ids=["quit", "ctrl-d"])
def test_what_is_typed_at_the_prompt_is_for_us_until_an_empty_line(start_server, last):
    server = start_server("lines", "--prefix", "Buffer: ")
    terminal = Terminal(f":{server.port}")
    terminal.read_until(b"Escape character is '^]'.")
    terminal.type(b"\x1d")
    terminal.read_until(b"anysock> ")
    terminal.type(b"help\n")
    terminal.read_until(b"ends the conversation; an empty line goes on with it.\r\nanysock> ")
    terminal.type(b"status\n")
    terminal.read_until(b"?Invalid command\r\n")
    terminal.type(b"\n")
    terminal.type(b"on we go\n")
    terminal.read_until(b"Buffer: on we go")
    terminal.type(b"\x1d")
    terminal.type(b"help\n")
    terminal.type(last)
    assert terminal.wait() == 0
    assert b"Connection closed.\r\n" in terminal.shown
    assert b"Buffer: help" not in terminal.shown
    assert b"Buffer: quit" not in terminal.shown


def test_ctrl_d_at_a_terminal_half_closes(start_server):
    server = start_server()
    terminal = Terminal(f":{server.port}")
    terminal.read_until(b"Escape character")
    terminal.type(b"hello\n\x04")
    assert terminal.wait() == 0
    assert b"Connection closed by foreign host." in terminal.shown
    assert terminal.shown.count(b"hello") == 2  # typed, and echoed by the server


def test_a_server_that_ends_frees_the_terminal(start_server):
    server = start_server("daytime")
    terminal = Terminal(f":{server.port}")
    assert terminal.wait() == 0
    assert b"-UTC" in terminal.shown


def test_a_server_that_closes_at_once_is_no_failure_of_ours():
    """What the user says may meet a connection that is closed already."""
    with bad_server(bad_servers.close_at_once) as port:
        for _ in range(15):
            done = talk(f":{port}", say=b"hello\n")
            assert b"Traceback" not in done.stderr, done.stderr
            assert b"failed" not in done.stderr, done.stderr
