"""The ladder: each rung as a process, with the clients that trip the naive ones."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents.rungs import LADDER, Rung, rung
from tests.harness import (
    PATIENCE,
    awake_seconds,
    exchange,
    free_port,
    listens,
    receive_all,
    receive_exactly,
    reset,
    wait_until,
)
from tests.io_uring import needs_io_uring

# Those that serve every client at once, and those that do not end by themselves.
CONCURRENT = ("s07_polling", "s08_selectors", "s09_event_loop", "s10_asyncio",
              "s11_listener_coroutine", "s12_failing_handler", "s13_tracked_tasks",
              "s15_io_uring")  # fmt: skip
SERVERS = ("s04_blocking", *CONCURRENT)


@pytest.fixture(params=SERVERS)
def server(request) -> Iterator[Rung]:
    """Each rung that serves clients until it is stopped; at the end it is, and leaves cleanly."""
    with rung(request.param) as started:
        yield started
        assert started.interrupted() == 0
        assert "Traceback" not in started.error
        assert "Error" not in started.error


@pytest.fixture(params=CONCURRENT)
def concurrent(request) -> Iterator[Rung]:
    """Each rung that serves every client at once."""
    with rung(request.param) as started:
        yield started
        assert started.interrupted() == 0


# -- each says what its table says ----------------------------------------------------------------


def test_s01_announces_its_client():
    with rung("s01_accept") as program:
        client = program.connect()
        port = client.getsockname()[1]
        assert receive_all(client) == b""
        client.close()
        assert program.ended() == 0
        assert program.out == f"I got a connection from ('127.0.0.1', {port})!\n"


def test_s02_reads_two_bytes_at_a_time():
    with rung("s02_read_a_line") as program:
        with program.connect() as client:
            client.sendall(b"hello\r\n")
            assert program.ended() == 0
        assert program.out.splitlines()[1:] == [
            "I got data: b'he'!",
            "I got data: b'll'!",
            "I got data: b'o\\r'!",
            "I got data: b'\\n'!",
            "All the data is: b'hello\\r\\n'",
        ]


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ([b"hell\r", b"\n"], rb"b'hell\r\n'"),
        ([b"a\nb\n"], rb"b'a\n'"),
        ([b"ab\ncd\n"], rb"b'ab\n'"),
        ([b"half a li", b"ne\r\n"], rb"b'half a line\r\n'"),
        ([b"no end"], b"b'no end'"),
        ([], b"b''"),
    ],
    ids=str,
)
def test_s02_finds_the_end_wherever_it_stands(pieces, line):
    with rung("s02_read_a_line") as program:
        with program.connect() as client:
            for count, piece in enumerate(pieces, 1):
                client.sendall(piece)
                if count < len(pieces):  # the next comes when this was read
                    wait_until(program.has_read(len(b"".join(pieces[:count]))), "it is read")
            if not pieces or b"\n" not in pieces[-1]:
                client.shutdown(socket.SHUT_WR)
            assert program.ended() == 0
        assert program.out.splitlines()[-1] == f"All the data is: {line.decode()}"


def test_s02_a_line_without_an_end_has_a_limit():
    with rung("s02_read_a_line") as program:
        with program.connect() as client, contextlib.suppress(OSError):
            client.sendall(b"x" * 200_000)
            receive_all(client)
        assert program.ended() == 0
        assert len(program.out.splitlines()[-1]) == len("All the data is: b''") + 65536


def test_s03_answers_and_ends():
    with rung("s03_answer") as program:
        with program.connect() as client:
            client.sendall(b"hello\r\nand more that nobody reads\r\n")
            assert receive_all(client) == b"Buffer: hello\r\n"
        assert program.ended() == 0


def test_s05_explains_the_error():
    with rung("s05_nonblocking_accept") as program:
        assert program.ended() == 0
        first, second = program.out.splitlines()
        assert first.startswith("BlockingIOError: [Errno ")
        assert second.startswith("Nobody has connected yet")


def test_s06_explains_the_error():
    with rung("s06_nonblocking_recv") as program:
        with program.connect():
            assert program.ended() == 0
        lines = program.out.splitlines()
        assert lines[1] == "Does it block? yes"
        assert lines[2].startswith("BlockingIOError: ")


@pytest.mark.parametrize("name", ["s01_accept", "s02_read_a_line", "s03_answer",
                                  "s06_nonblocking_recv"])  # fmt: skip
def test_a_program_that_waits_for_its_client_can_be_stopped(name):
    with rung(name) as program:
        wait_until(lambda: listens(program.port), "it listens")
        assert program.interrupted() == 0
        assert program.error == ""


# -- servers --------------------------------------------------------------------------------------


def test_all_of_it_comes_back(server):
    data = os.urandom(3_000_000).replace(b"boom", b"bang") + b"\n"
    with server.connect() as client:
        assert exchange(client, data) == data


def test_one_client_after_another(server):
    for number in range(20):
        with server.connect() as client:
            assert exchange(client, b"%d\r\n" % number) == b"%d\r\n" % number
    wait_until(lambda: server.out.count("I got a connection from (") == 20, "all are announced")


def test_a_reset_hurts_nobody_else(server):
    for _ in range(3):
        client = server.connect()
        client.sendall(b"hello\n")
        receive_exactly(client, 6)
        reset(client)
    with server.connect() as client:
        assert exchange(client, b"still there\n") == b"still there\n"


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "s07_polling"])
def test_a_client_that_leaves_costs_nothing(name):
    with rung(name) as program:
        for _ in range(3):
            with program.connect() as client:
                exchange(client, b"hello\n")
        sockets = program.sockets()
        before = program.cpu_seconds()
        time.sleep(0.5)  # the span that is measured
        assert program.cpu_seconds() - before < 0.1
        assert program.sockets() == sockets


def test_many_clients_at_once_each_get_their_own(concurrent):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(concurrent.connect()) for _ in range(30)]
        for number, client in enumerate(clients):
            client.sendall(b"%02d\n" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert receive_exactly(client, 3) == b"%02d\n" % number


def test_a_client_that_does_not_read_stops_nobody_else(concurrent):
    with concurrent.connect() as greedy, concurrent.connect() as other:
        greedy.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                greedy.send(b"x" * 65535 + b"\n")
        other.sendall(b"hello\n")
        assert receive_exactly(other, 6) == b"hello\n"


def test_s04_the_second_client_waits_while_the_first_is_silent():
    with rung("s04_blocking") as program, program.connect() as first, program.connect() as second:
        second.sendall(b"hello\n")
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(6)
        second.settimeout(PATIENCE)
        first.close()
        assert receive_exactly(second, 6) == b"hello\n"


def test_s07_burns_a_core_and_s08_does_not():
    share = {}
    for name in ("s07_polling", "s08_selectors"):
        with rung(name) as program, program.connect() as client:
            exchange_one(client)
            pid = program.process.pid
            before, began = awake_seconds(pid), time.monotonic()
            time.sleep(0.5)  # the span that is measured
            share[name] = (awake_seconds(pid) - before) / (time.monotonic() - began)
    # All of a core, or it waits for one.
    assert share["s07_polling"] > 0.5
    assert share["s08_selectors"] < 0.05


def exchange_one(client: socket.socket) -> None:
    client.sendall(b"hello\n")
    assert receive_exactly(client, 6) == b"hello\n"


def test_s08_says_that_it_waits():
    with rung("s08_selectors") as program:
        program.connect().close()
        wait_until(lambda: "No events, waiting a bit more!\n" in program.out, "an idle second")


def test_s09_sleeping_tasks_wake_though_nobody_speaks():
    with rung("s09_event_loop") as program, program.connect() as client:
        exchange_one(client)
        wait_until(lambda: "2 s, and nobody was kept waiting" in program.out, "two seconds")
        exchange_one(client)


def test_s11_listens_on_every_address_of_a_name():
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-u", str(LADDER / "s11_listener_coroutine.py"), "localhost", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
        for family, _, _, _, address in found:

            def talked(family=family, address=address) -> bool:
                with socket.socket(family, socket.SOCK_STREAM) as client:
                    if client.connect_ex(address):
                        return False
                    exchange_one(client)
                    return True

            wait_until(talked, f"it answers at {address}")
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (0, b"")


@pytest.mark.parametrize("name", ["s12_failing_handler", "s13_tracked_tasks"])
@pytest.mark.parametrize("pieces", [[b"boom\r\n"], [b"bo", b"om\n"], [b"hello\nboom\n"]], ids=str)
def test_a_failure_is_told_at_once_and_hurts_nobody_else(name, pieces):
    with rung(name) as program, program.connect() as other:
        exchange_one(other)
        with program.connect() as client:
            for piece in pieces:
                client.sendall(piece)
            receive_all(client)  # the end of the stream: it does not hang
        wait_until(lambda: program.error.count("RuntimeError: boom") == 1, "the failure is told")
        exchange_one(other)
        with program.connect() as client:
            client.sendall(b"kaboom, says the text\n")
            assert receive_exactly(client, 22) == b"kaboom, says the text\n"
        assert program.interrupted() == 0
        assert "never retrieved" not in program.error


@pytest.mark.parametrize("name", ["s12_failing_handler", "s13_tracked_tasks"])
def test_a_line_that_is_too_long_is_no_other_line(name):
    with rung(name) as program:
        with program.connect() as client, contextlib.suppress(ConnectionError):
            # Of what is kept of it, the last bytes are another line.
            client.sendall(b"x" * 65536 + b" " * 65532)
            client.sendall(b"boom\n")
            receive_all(client)
        wait_until(lambda: "a line longer than 65536 bytes" in program.error, "it is told")
        assert "RuntimeError: boom" not in program.error
        assert program.interrupted() == 0


def test_s13_nothing_is_kept_of_a_hundred_failures():
    with rung("s13_tracked_tasks") as program:
        with program.connect() as client:
            exchange_one(client)
        wait_until(lambda: program.out.endswith("0 clients\n"), "it has left")
        before = program.sockets()
        for _ in range(100):
            with program.connect() as client:
                client.sendall(b"boom\n")
                receive_all(client)
        wait_until(lambda: program.error.count("RuntimeError: boom") == 100, "all are told")
        wait_until(lambda: program.sockets() == before, "the sockets are closed")
        wait_until(lambda: program.out.endswith("0 clients\n"), "all have left")
        assert program.interrupted() == 0


def test_s15_serves_hundreds_who_speak_at_once():
    with rung("s15_io_uring") as program, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(program.connect()) for _ in range(600)]
        for client in clients:
            exchange_one(client)
        with program.stopped():
            for number, client in enumerate(clients):
                client.sendall(b"%03d\n" % number)
        for number, client in enumerate(clients):
            assert receive_exactly(client, 4) == b"%03d\n" % number
        assert program.interrupted() == 0
        assert "601 operations are in flight: they are cancelled\n" in program.out


def test_s15_asks_for_more_than_its_rings_have_room_for():
    needs_io_uring()
    program = runpy.run_path(str(LADDER / "s15_io_uring.py"))
    loop = program["Loop"](program["Ring"](entries=4))
    pairs = [socket.socketpair() for _ in range(30)]
    for number, (client, connection) in enumerate(pairs):
        client.sendall(b"%02d\n" % number)
        client.shutdown(socket.SHUT_WR)
        loop.step(program["echo"](connection))  # 30 receives, before the first call
    loop.run()
    os.close(loop.ring.fd)
    for number, (client, _) in enumerate(pairs):
        with client:
            assert receive_all(client) == b"%02d\n" % number


def test_s15_ends_when_each_operation_has_its_completion():
    with rung("s15_io_uring") as program:
        with program.connect() as silent, program.connect() as greedy:
            exchange_one(silent)
            greedy.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while True:
                    greedy.send(bytes(65536))
            assert program.interrupted() == 0
            # Of the listener an accept, of the silent one a receive, of the greedy one a send.
            assert "3 operations are in flight: they are cancelled\n" in program.out
            assert program.error == ""
            assert receive_all(silent) == b""


def test_s15_what_is_complete_before_it_is_cancelled_ends_as_well():
    with rung("s15_io_uring") as program, program.connect() as client:
        exchange_one(client)
        with program.stopped():
            client.sendall(b"hello\n")
            newcomer = program.connect()
            program.process.send_signal(signal.SIGINT)
        with newcomer:
            assert program.ended() == 0
            assert program.error == ""
            with contextlib.suppress(ConnectionError):  # what it never received resets it
                receive_all(newcomer)


def test_s15_without_io_uring_says_so_in_one_line():
    refusing = Path(__file__).parents[1] / "without_io_uring.py"
    done = subprocess.run(
        [sys.executable, str(refusing), sys.executable, str(LADDER / "s15_io_uring.py")],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("io_uring is not available: Operation not permitted")
    assert done.stderr.count("\n") == 1


# -- the naive ones, and what goes wrong ----------------------------------------------------------


def test_the_naive_loop_hears_a_client_only_when_another_connects():
    with rung("s04_blocking_naive") as program, program.connect() as first:
        first.sendall(b"one\r\n")
        assert receive_exactly(first, 5) == b"one\r\n"
        first.sendall(b"two\r\n")
        first.settimeout(0.3)
        with pytest.raises(TimeoutError):
            first.recv(5)
        first.settimeout(PATIENCE)
        with program.connect():
            assert receive_exactly(first, 5) == b"two\r\n"


def test_the_naive_loop_spins_when_a_client_leaves():
    with rung("s04_blocking_naive") as program:
        program.connect().close()
        wait_until(lambda: program.cpu_seconds() > 0.5, "it spins")


def test_the_naive_nonblocking_server_dies_at_once():
    with rung("s06_nonblocking_naive") as program:
        assert program.ended() == 1
        assert "BlockingIOError" in program.error


def test_the_naive_failure_is_silent_and_its_client_hangs():
    with rung("s12_failing_handler_naive") as program, program.connect() as client:
        exchange_one(client)
        client.sendall(b"boom\n")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert program.error == ""
        assert program.interrupted() == 0
        assert "Task exception was never retrieved" in program.error


def test_the_naive_fault_looks_at_chunks():
    with rung("s12_failing_handler_naive") as program:
        with program.connect() as client:
            client.sendall(b"bo")
            assert receive_exactly(client, 2) == b"bo"
            client.sendall(b"om\n")
            assert receive_exactly(client, 3) == b"om\n"  # it was not seen
        with program.connect() as client:
            client.sendall(b"kaboom!\n")
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)


# -- the house rules of the ladder ----------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(LADDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_rung_is_short_and_needs_the_standard_library_alone(path):
    text = path.read_text()
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    # An event loop, and one that talks to the kernel by itself, take more.
    assert 12 < len(code) <= {"s09": 85, "s15": 160}.get(path.stem[:3], 60)
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported <= set(sys.stdlib_module_names)
    assert 'host="127.0.0.1", port=8000' in text


@pytest.mark.parametrize("path", sorted(LADDER.glob("*_naive.py")), ids=lambda path: path.stem)
def test_a_naive_rung_names_the_tests_that_show_what_goes_wrong(path):
    named = re.findall(r"test_ladder\.py::(test_\w+)", path.read_text())
    assert named
    assert all(name in globals() for name in named)
