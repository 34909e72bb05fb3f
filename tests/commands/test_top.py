"""``anysock top``: what keys do, what fits which terminal, and all of it in a real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.cli.keyboard import keys_of
from anysock.cli.top_screen import age, curve, draw, size, time_of
from anysock.cli.top_view import SORTS, Mode, View, Wish
from tests.commands.running import anysock
from tests.contract.processes.test_admin import BLOCKS, Admin
from tests.harness import crowd_of, receive_exactly, wait_until


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"1-{number}", "peer": f"192.0.2.1:{number}", "via": None, "local": "[::1]:7",
        "tls": "TLSv1.3", "seconds": 12.5 * number, "bytes_in": 1000 * number, "bytes_out": 5,
        "rate_in": 2048.0, "rate_out": None, "waits_for": "receive",
    } | more  # fmt: skip


def document(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    figures = {"lag": 0.001, "workers": 1, "handler_failures": 0}
    return {
        "version": 1, "time": 1.0, "ready": None, "write": True, "figures": figures,
        "held_up": [], "open": 120, "matching": 120, "first": 0, "connections": rows,
    } | more  # fmt: skip


def sample(number: int) -> dict[str, Any]:
    moved = {"bytes_in": 3.0, "bytes_out": 2.0**number}
    return {"connections": number, "lag": 0.1, "p99": 0.01, **moved}


def told(count: int = 5, **more: Any) -> View:
    view = View(room=5)
    view.told(document([row(number) for number in range(1, count + 1)], **more))
    return view


def press(view: View, *keys: str) -> Wish:
    wish = Wish.NOTHING
    for key in keys:
        wish = view.press(key)
    return wish


# -- keys ---------------------------------------------------------------------------------------


def test_keys_are_told_apart():
    assert keys_of("q\x1b[A\x1bOB\r\x7f\x1b") == ["q", "up", "down", "enter", "backspace", "escape"]
    assert keys_of("\x1b[6~ü\x1b[99~") == ["page down", "ü"]


def test_the_chosen_connection_is_kept_wherever_it_moves():
    view = told()
    press(view, "down", "down")
    assert view.chosen == "1-3"
    view.told(document([row(number) for number in (5, 3, 4)]))
    assert (view.chosen, view.place) == ("1-3", 1)
    # One that has ended leaves its place to the next.
    view.told(document([row(number) for number in (5, 4)]))
    assert view.chosen == "1-4"
    view.told(document([]))
    assert view.chosen is None
    assert press(view, "enter", "e", "down", "end") is Wish.NOTHING
    assert view.mode is Mode.TABLE


def test_behind_the_last_row_is_the_next_page():
    view = told()
    assert press(view, "down", "down", "down", "down") is Wish.NOTHING
    assert press(view, "down") is Wish.ASK
    assert view.query()["first"] == 5
    view.told(document([row(number) for number in range(6, 11)], first=5))
    assert view.chosen == "1-6"
    assert press(view, "up") is Wish.ASK
    assert view.query()["first"] == 0
    view.told(document([row(number) for number in range(1, 6)]))
    assert view.chosen == "1-5"
    assert press(view, "page down", "home") is Wish.ASK
    assert view.first == 0
    # The page is gone.
    view.first = 50
    assert view.told(document([], first=50)) is True
    assert view.query()["first"] == 0


def test_each_column_can_be_sorted_by_and_reversed():
    view = told()
    seen = []
    for _ in SORTS:
        assert press(view, ">") is Wish.ASK
        seen.append((view.query()["sort"], view.query()["order"]))
    assert {name for name, _ in seen} == set(SORTS)
    assert ("peer", "asc") in seen
    assert ("bytes_in", "desc") in seen
    press(view, "<", ">", "r")
    assert view.query()["order"] == ("asc" if view.sort == "rate_in" else "desc")


def test_what_is_typed_filters():
    view = told()
    press(view, "/")
    assert press(view, *"10.q") is Wish.ASK
    assert view.query()["filter"] == "10.q"
    press(view, "backspace", "enter")
    assert (view.filter, view.mode) == ("10.", Mode.TABLE)
    press(view, "escape")
    assert view.filter == ""
    press(view, "/", "x", "escape")
    assert (view.filter, view.mode) == ("", Mode.TABLE)


def test_one_that_is_frozen_shows_nothing_new():
    view = told()
    press(view, "p")
    view.told(document([]))
    assert len(view.rows) == 5
    assert press(view, "p") is Wish.ASK
    view.told(document([]))
    assert view.rows == []


def test_nothing_is_ended_before_it_is_confirmed():
    view = told()
    assert press(view, "e") is Wish.NOTHING
    assert press(view, "n") is Wish.NOTHING
    assert press(view, "e", "enter") is Wish.NOTHING
    assert press(view, "down", "e", "y") is Wish.END
    assert view.chosen == "1-2"
    # It has ended by itself: the key is for nothing.
    press(view, "e")
    view.told(document([row(1)]))
    assert press(view, "y") is Wish.NOTHING


KEYS = [*"qjkesrp/?<>yn x", "up", "down", "enter", "escape", "backspace", "page up", "page down"]


@given(st.lists(st.sampled_from([*KEYS, "home", "end", "told", "none"])))
def test_whatever_is_pressed_there_is_a_screen(keys):
    view = View(room=3)
    for key in keys:
        if key in ("told", "none"):
            rows = [row(number) for number in range(3)] if key == "told" else []
            view.told(document(rows, matching=10))
        else:
            view.press(key)
        lines = draw(view, "127.0.0.1:9000", 80, 24).plain.split("\n")
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert 0 <= view.first
        assert view.query()["sort"] in SORTS


# -- the screen ---------------------------------------------------------------------------------

LONG = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("width", "height"), [(40, 8), (80, 24), (200, 50)])
def test_the_screen_has_as_many_lines_as_the_terminal_and_none_is_too_long(width, height, mode):
    stack = "\n".join(f"line {number}\x1b[31m" for number in range(30))
    held = {"pid": 4711, "seconds": 3.25, "stack": stack}
    rows = [row(number, peer=LONG, waits_for="send") for number in range(60)]
    view = told(held_up=[held], connections=rows)
    view.mode = mode
    view.samples.extend(sample(number) for number in range(50))
    lines = draw(view, "127.0.0.1:9000", width, height).plain.split("\n")
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    assert "line 29" in "".join(lines)
    if mode is Mode.TABLE and height > 8:
        assert sum("2001:db8" in line for line in lines) == view.room
        assert ("".join(lines).count(LONG) > 0) is (width == 200)


def test_what_fits_into_80_columns_is_not_cut():
    view = told()
    view.samples.append(sample(22))
    lines = draw(view, "127.0.0.1:9000", 80, 24).plain.split("\n")
    assert "…" not in "".join(lines)
    assert lines[2].split() == ["PEER", "AGE", "IN", "OUT", "IN/S↓", "OUT/S", "WAITS", "FOR"]
    assert lines[3].split()[0] == "192.0.2.1:1"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 * 1024, "150 KiB"),
     (3.5 * 1024**3, "3.5 GiB")],
)  # fmt: skip
def test_sizes(value, said):
    assert size(value) == said


def test_times_and_curves():
    assert [time_of(each) for each in (None, 2e-6, 0.0123, 2)] == ["–", "2 µs", "12.3 ms", "2.0 s"]
    assert [age(each) for each in (1.25, 61, 3661, 90_000)] == ["1.2s", "1m 1s", "1h 1m", "1d 1h"]
    assert curve([0, 4, 8], 5) == "   ▄█"
    assert curve([], 3) == "   "
    assert curve([0, 0], 2) == "  "


# -- what goes wrong ------------------------------------------------------------------------------


def test_where_nobody_answers_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = anysock("top", f":{port}", "--once", code=1)
    assert done.stderr == f"anysock: no answer from 127.0.0.1:{port}: Connection refused\n"


def test_what_is_no_admin_endpoint_is_one_line(start_server):
    server = start_server("echo")
    done = anysock("top", f":{server.port}", "--once", code=1)
    assert done.stderr == f"anysock: what answers at 127.0.0.1:{server.port} speaks no HTTP\n"


def test_without_a_terminal_it_prints_a_table_or_nothing(start_server):
    server = start_server("echo", "--admin", ":0")
    admin = Admin(server)
    done = anysock("top", f"http://127.0.0.1:{admin.port}/", code=2)
    assert done.stderr == "anysock: this needs a terminal; --once prints a table\n"
    with server.connect() as client:
        client.sendall(b"hello")
        receive_exactly(client, 5)
        name = f"127.0.0.1:{client.getsockname()[1]}"
        shown = anysock("top", f":{admin.port}", "--once", "--sort", "bytes_in").stdout.splitlines()
    assert shown[0].split() == ["PEER", "VIA", "TLS", "AGE", *"IN OUT IN/S OUT/S WAITS FOR".split()]
    assert shown[1].split()[0] == name
    assert shown[1].split()[4:6] == ["5", "B"]


# -- in a terminal --------------------------------------------------------------------------------


class Tmux:
    """A real terminal, of a size."""

    def __init__(self, name: str, width: int, height: int, *command: str) -> None:
        self._name = name
        self.run("new-session", "-d", "-x", str(width), "-y", str(height), *command)

    def run(self, *arguments: str) -> str:
        command = ("tmux", "-f", "/dev/null", "-L", self._name, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def screen(self) -> str:
        return self.run("capture-pane", "-p")

    def until(self, text: str) -> str:
        """Wait until the screen has `text` on it; return the screen."""
        shown = ""

        def is_there() -> bool:
            nonlocal shown
            shown = self.screen()
            return text in shown

        try:
            wait_until(is_there, f"{text!r} on the screen")
        except AssertionError:
            raise AssertionError(f"no {text!r} on\n{shown}") from None
        return shown

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)


@pytest.fixture
def tmux() -> Iterator[Any]:
    if shutil.which("tmux") is None:
        assert not os.environ.get("CI"), "tmux is not installed"
        pytest.skip("tmux is not installed")
    name = f"anysock-{os.getpid()}-{time.monotonic_ns()}"

    def start(width: int, height: int, *arguments: str) -> Tmux:
        top = f"{sys.executable} -m anysock top {' '.join(arguments)}"
        return Tmux(name, width, height, f"{top}; echo it has ended with $?; read _")

    yield start
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(("tmux", "-L", name, "kill-server"), check=True, capture_output=True)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_in_a_terminal_connections_are_chosen_filtered_shown_and_ended(
    width, height, tmux, start_server
):
    server = start_server("echo", "--admin", ":0", "--admin-write")
    server.expected_errors = ["aborted the connection"]
    admin = Admin(server)
    with contextlib.ExitStack() as stack:
        clients = crowd_of(server, 60, stack)
        peers = [f"127.0.0.1:{client.getsockname()[1]}" for client in clients]
        top = tmux(width, height, f":{admin.port}", "--sort", "bytes_in")
        room = height - 4 if height < 30 else height - 7

        def are_shown() -> bool:
            lines = top.screen().splitlines()
            rows = [line.split()[0] for line in lines if line.startswith("127.0.0.1:")]
            return len(lines) == height and rows == peers[::-1][:room]

        wait_until(are_shown, "as many as there is room for")
        top.press("Down", "Enter")
        assert peers[-2] in top.until("waits for")
        top.press("Escape")
        top.until("PEER")
        top.press("/", *peers[9])
        top.until("▏  1 match")
        top.press("Enter", "e")
        top.until(f"end the connection from {peers[9]}?")
        top.press("y")
        with pytest.raises(ConnectionResetError):
            clients[9].recv(1)
        top.until("no connection matches")
        top.press("Escape", "?")
        top.until("PgUp PgDn")
        top.press("x", "p")
        top.until("frozen")
        top.run("resize-window", "-x", "100", "-y", "30")
        top.until("TLS")
        top.press("q")
        shown = top.until("it has ended with 0")
        assert "PEER" not in shown


def test_in_a_terminal_a_blocked_loop_is_shown_with_its_stack(tmux, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(BLOCKS)
    server = start_server(
        *("mine:handler", "--admin", ":0", "--slow-step", "0"), engine="selector", cwd=tmp_path
    )
    top = tmux(80, 24, f":{Admin(server).port}")
    top.until("no connection is open")
    with server.connect() as client:
        client.sendall(b"5")
        assert "a step holds up process" in top.until("time.sleep(float(chunk))")
        top.until("handler")
        assert receive_exactly(client, 1) == b"5"
    top.press("C-c")
    top.until(f"it has ended with {128 + signal.SIGINT}")


def test_in_a_terminal_a_server_that_ends_is_told(tmux, start_server):
    server = start_server("echo", "--admin", ":0")
    top = tmux(80, 24, f":{Admin(server).port}")
    top.until("ready")
    server.signal()
    assert server.wait() == 0
    top.until("no answer from")
    top.press("q")
    top.until("it has ended with 0")
