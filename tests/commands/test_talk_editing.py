"""``anysock talk`` at a terminal: lines are edited, and have a history, whatever comes then."""

from __future__ import annotations

import os
import queue
import re
import signal
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from anysock.clients import line_editing
from tests.bad_servers import bad_server
from tests.commands.test_talk import Terminal, talk
from tests.harness import PATIENCE, free_port

LEFT, UP, HOME, END = b"\x1b[D", b"\x1b[A", b"\x01", b"\x05"
# What moves the cursor, and clears.
_MOVES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")
READY = b"Escape character is '^]'."
OWN = termios.ICANON | termios.ECHO | termios.ISIG


class Other:
    """The other side: what it is told, line by line, and what it says."""

    def __init__(self) -> None:
        self.told: queue.Queue[bytes] = queue.Queue()
        self._clients: queue.Queue[Any] = queue.Queue()

    def handle(self, client: Any) -> None:
        self._clients.put(client)
        for line in client.makefile("rb"):
            self.told.put(line)

    def say(self, words: bytes) -> None:
        client = self._clients.get(timeout=PATIENCE)
        self._clients.put(client)
        client.sendall(words)

    def line(self) -> bytes:
        return self.told.get(timeout=PATIENCE)


@pytest.fixture
def other() -> Iterator[tuple[Other, str]]:
    other = Other()
    with bad_server(other.handle) as port:
        yield other, f":{port}"


def at_a_terminal(address: str, state: object) -> Terminal:
    terminal = Terminal(address, term="xterm", state=str(state))
    terminal.read_until(READY)
    # It is told that it may be typed shortly before the editor reads, which rings at this.
    terminal.type(b"\x07")
    terminal.read_until(b"\x07")
    return terminal


def test_a_line_is_edited_before_it_is_sent(other, tmp_path):
    server, address = other
    terminal = at_a_terminal(address, tmp_path)
    terminal.type(b"elo" + LEFT + b"l" + HOME + b"h" + END + b"!\n")
    assert server.line() == b"hello!\r\n"
    terminal.type("Grüße\tan alle\n".encode())
    assert server.line() == "Grüße\tan alle\r\n".encode()
    terminal.type(b"\x04")
    assert terminal.wait() == 0
    assert terminal.modes & OWN == OWN


def test_the_history_is_that_of_the_last_time_too(other, tmp_path):
    server, address = other
    terminal = at_a_terminal(address, tmp_path)
    for line in (b"first", b"second", b"second", b" a secret", b""):
        terminal.type(line + b"\n")
        assert server.line() == line + b"\r\n"
    terminal.type(b"\x04")
    assert terminal.wait() == 0
    file = tmp_path / "anysock" / "talk_history"
    assert file.read_text() == "first\nsecond\n"
    assert file.stat().st_mode & 0o777 == 0o600
    terminal = at_a_terminal(address, tmp_path)
    terminal.type(UP + UP + b"\n")
    assert server.line() == b"first\r\n"
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.wait() == 128 + signal.SIGTERM
    assert terminal.modes & OWN == OWN
    # It was kept when it was typed.
    assert file.read_text() == "first\nsecond\nfirst\n"


def test_what_comes_stands_above_the_line_that_is_being_typed(other, tmp_path):
    server, address = other
    terminal = at_a_terminal(address, tmp_path)
    server.say(b"login: ")
    terminal.read_until(b"login: ")
    terminal.type(b"half")
    terminal.read_until(b"half")
    terminal.shown = b""
    server.say(b"wait!\r\nwho is it? ")
    terminal.read_until(b"half")
    # Drawn again, below, behind what the other side has asked.
    assert _MOVES.sub(b"", terminal.shown) == b"login: wait!\nwho is it? half"
    terminal.type(b"way\n")
    assert server.line() == b"halfway\r\n"
    terminal.type(b"\x03")
    assert terminal.wait() == 128 + signal.SIGINT
    assert terminal.modes & OWN == OWN
    assert b"Traceback" not in terminal.shown


def test_after_the_prompt_it_goes_on_with_what_had_been_typed(other, tmp_path):
    server, address = other
    terminal = at_a_terminal(address, tmp_path)
    terminal.type(b"ab\x1d")
    terminal.read_until(b"anysock> ")
    terminal.shown = b""
    terminal.type(b"\n")
    terminal.read_until(b"ab")
    terminal.type(b"cd\n")
    assert server.line() == b"abcd\r\n"
    terminal.type(b"\x1d")
    terminal.read_until(b"anysock> ")
    terminal.type(b"quit\n")
    assert terminal.wait() == 0


def test_a_server_that_ends_while_a_line_is_typed_frees_the_terminal(start_server, tmp_path):
    server = start_server()
    terminal = at_a_terminal(f":{server.port}", tmp_path)
    terminal.type(b"half a li")
    terminal.read_until(b"half a li")
    server.signal()
    assert terminal.wait() == 0
    assert b"half a li\r\nConnection closed by foreign host.\r\n" in terminal.shown
    assert terminal.modes & OWN == OWN
    assert server.wait() == 0


def test_a_history_that_cannot_be_kept_is_one_line(other):
    server, address = other
    terminal = Terminal(address, term="xterm", state="/dev/null")
    terminal.read_until(READY)
    assert b"the history of what is typed is not kept: Not a directory\r\n" in terminal.shown
    terminal.type(b"hello\n" + UP + b"\n\x04")
    assert server.line() == server.line() == b"hello\r\n"
    assert terminal.wait() == 0


def test_over_udp_what_is_wrong_stands_above_it_too(tmp_path):
    port = free_port()
    terminal = at_a_terminal(f"udp://127.0.0.1:{port}", tmp_path)
    terminal.type(b"hello\n")
    terminal.read_until(f"nobody listens at udp://127.0.0.1:{port}\r\n".encode())
    terminal.type(b"\x04")
    assert terminal.wait() == 1
    assert terminal.modes & OWN == OWN


def test_in_a_pipe_nothing_is_edited_and_nothing_kept(start_server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert talk(f":{start_server().port}", say=b"a\tb\n").stdout == b"a\tb\r\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "folder"),
    [("/var/state", "/var/state"), ("", "/home/me/.local/state"), ("a", "/home/me/.local/state")],
)
def test_where_the_history_is(monkeypatch, state, folder):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert str(line_editing.history_file()) == f"{folder}/anysock/talk_history"
