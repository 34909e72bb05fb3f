"""The live page of the admin endpoint, in a real browser."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import PICTURES, Page, picture
from tests.contract.processes.test_admin import BLOCKS, Admin
from tests.harness import ServerProcess, crowd_of, receive_exactly, wait_until

TEXT_OF_ROWS = "[...document.querySelectorAll('#rows tr')].map(row => row.children[0].textContent)"


@pytest.fixture
def crowd(start_server) -> Iterator[tuple[ServerProcess, Admin, list[socket.socket]]]:
    """A server that may be written to, and 60 clients, each of which has moved more bytes than the
    one before."""
    server = start_server("echo", "--admin", ":0", "--admin-write", engine="selector")
    server.expected_errors = ["aborted the connection"]
    admin = Admin(server)
    with contextlib.ExitStack() as stack:
        yield server, admin, crowd_of(server, 60, stack)


@contextlib.contextmanager
def shown(page: Page, admin: Admin) -> Iterator[None]:
    """Within the block, the page is open. Afterwards, the server is to have no client left."""
    page.open(f"http://127.0.0.1:{admin.port}/")
    try:
        page.until("samples.length > 0 && document.querySelectorAll('.chart canvas').length === 6")
        yield
    finally:
        page.call("Page.navigate", url="about:blank")


def peer(client: socket.socket) -> str:
    return f"127.0.0.1:{client.getsockname()[1]}"


def test_connections_are_shown_sorted_filtered_and_ended(page, crowd):
    server, admin, clients = crowd
    with shown(page, admin):
        assert page.ask("document.getElementById('count').textContent") == "1–50 of 60"
        page.click("th[data-key=bytes_in] button")
        page.until(f"({TEXT_OF_ROWS})[0] === {json.dumps(peer(clients[-1]))}")
        assert page.ask(TEXT_OF_ROWS) == [peer(each) for each in clients[:9:-1]]
        page.click("#next")
        page.until("document.getElementById('count').textContent === '51–60 of 60'")
        assert page.ask(TEXT_OF_ROWS) == [peer(each) for each in clients[9::-1]]
        page.click("#filter")
        page.type(peer(clients[4]))
        page.until("document.getElementById('count').textContent === '1–1 of 1 (60 open)'")
        # It is not ended before that is confirmed.
        page.click("#rows tr button")
        page.until("document.getElementById('ask').open")
        assert peer(clients[4]) in page.ask("document.getElementById('question').textContent")
        picture(page, "ask")
        page.click("#ask button[value=no]")
        page.until("!document.getElementById('ask').open")
        clients[4].sendall(b"still here")
        assert receive_exactly(clients[4], 10) == b"still here"
        page.click("#rows tr button")
        page.until("document.getElementById('ask').open")
        page.click("#yes")
        with pytest.raises(ConnectionResetError):
            clients[4].recv(1)
        page.until("document.getElementById('count').textContent === 'none (59 open)'")
        page.click("#pause")
        page.until("document.getElementById('status').textContent === 'accepting is paused'")
        page.click("#pause")
        page.until("document.getElementById('status').textContent === 'ready'")
        page.click("#drain")
        page.until("document.getElementById('ask').open")
        page.click("#yes")
        # A page that is left sends nothing more.
        server.wait_for("draining")
    assert server.wait() == 0


def test_it_goes_on_while_a_handler_blocks_and_shows_the_stack(page, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(BLOCKS)
    server = start_server(
        *("mine:handler", "--admin", ":0", "--slow-step", "0"), engine="selector", cwd=tmp_path
    )
    admin = Admin(server)
    with shown(page, admin):
        # It may look on, no more.
        assert page.ask("document.getElementById('actions').hidden")
        with server.connect() as client:
            client.sendall(b"6")
            page.until("!document.getElementById('held').hidden")
            held = page.ask("document.getElementById('held').textContent")
            assert "time.sleep(float(chunk))" in held
            assert page.ask("document.getElementById('status').textContent") == "held up"
            before = page.ask("last.time")
            page.until(f"last.time > {before} && last.connections[0].waits_for === 'handler'")
            assert page.ask("document.querySelectorAll('#rows button').length") == 0
            picture(page, "held-up")
            page.until("document.getElementById('held').hidden")
            assert receive_exactly(client, 1) == b"6"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(400, 900), (1280, 900)])
def test_it_fits_a_phone_and_a_desk(page, crowd, width, height, dark):
    page.look(width, height, dark=dark)
    with shown(page, crowd[1]):
        for second in range(1, 8 if PICTURES else 3):
            for number, client in enumerate(crowd[2][::3], start=1):
                client.sendall(b"x" * 997 * number)
                receive_exactly(client, 997 * number)
            page.until(f"samples.length > {second}")
        assert page.ask("document.documentElement.scrollWidth") <= width
        ground = page.ask("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) is dark
        picture(page, f"live-{width}-{'dark' if dark else 'light'}")


def test_a_worker_that_is_held_up_is_shown_with_its_stack(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(BLOCKS)
    server = start_server(
        *("mine:handler", "--workers", "2", "--admin", ":0", "--slow-step", "0"), cwd=tmp_path
    )
    server.wait_for("all workers together")
    admin = Admin(server)
    server.base_threads = server.threads()
    with server.connect() as client:
        client.sendall(b"4")
        held: list[dict[str, Any]] = []

        def is_shown() -> bool:
            held[:] = json.loads(admin.ask("/live")[1])["held_up"]
            return bool(held)

        wait_until(is_shown, "a worker is held up")
        assert "time.sleep(float(chunk))" in held[0]["stack"]
        workers = json.loads(admin.ask("/live")[1])["workers"]
        assert held[0]["pid"] in {each["pid"] for each in workers}
        assert receive_exactly(client, 1) == b"4"


def test_connections_of_all_workers_are_one_table(start_server):
    server = start_server("echo", "--workers", "2", "--admin", ":0", "--admin-write")
    server.expected_errors = ["aborted the connection"]
    server.wait_for("all workers together")
    admin = Admin(server)
    server.base_threads = server.threads()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(6)]
        for size, client in enumerate(clients, start=1):
            client.sendall(b"x" * size)
            receive_exactly(client, size)
        found: dict[str, Any] = {}

        def all_are_shown() -> bool:
            found.update(json.loads(admin.ask("/live?sort=bytes_in&first=1&most=4&since=0")[1]))
            return bool(found["open"] == 6 and len(found["workers"]) == 2)

        # On a machine that is busy, a worker may not answer in its time.
        wait_until(all_are_shown, "both workers answer")
        assert [each["peer"] for each in found["connections"]] == [
            peer(each) for each in clients[4:0:-1]
        ]
        pids = {each["pid"] for each in found["workers"]}
        assert {each["worker"] for each in found["connections"]} <= pids
        [shown] = [each for each in found["connections"] if each["peer"] == peer(clients[2])]
        assert admin.ask(f"/end?connection={shown['id']}", "POST") == (200, "ended\n")
        with pytest.raises(ConnectionResetError):
            clients[2].recv(1)
        assert admin.ask("/end?connection=1-1", "POST") == (404, "no such connection\n")
    assert admin.ask("/drain", "POST") == (200, "draining\n")
    assert server.wait() == 0
