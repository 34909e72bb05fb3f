"""The exercises of the tutorial: each answer does what its page says. The test of an exercise has
its name."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.documents.rungs import LADDER, Rung, rung
from tests.harness import (
    PATIENCE,
    exchange,
    free_port,
    listens,
    receive_all,
    receive_exactly,
    wait_until,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "tutorial" / f"s{number:02d}.md" for number in range(1, 16)]


def exercises(page: Path) -> list[str]:
    """The names of those on a page."""
    return re.findall(r"^```{exercise} (\w+)$", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_rung_has_three_exercises_whose_answers_are_tested(page):
    names = exercises(page)
    assert len(names) == 3
    for name in names:
        assert name.startswith(f"{page.stem}_")
        assert f"test_{name}" in globals()


def test_each_answer_belongs_to_an_exercise():
    answers = {path.stem for path in (LADDER / "answers").glob("*.py")}
    assert answers <= {name for page in PAGES for name in exercises(page)}


def silent(client: socket.socket, seconds: float = 0.3) -> bool:
    """Whether nothing comes for so long."""
    client.settimeout(seconds)
    try:
        client.recv(65536)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)
    return False


def echoes(client: socket.socket, data: bytes = b"hello\n") -> bool:
    client.sendall(data)
    return receive_exactly(client, len(data)) == data


def stopped(program: Rung) -> None:
    """It is stopped, and leaves cleanly."""
    assert program.interrupted() == 0
    assert "Traceback" not in program.error


def ends_who_is_silent(program: Rung) -> None:
    """One of two clients is silent until it is closed, and nothing happens to the other."""
    with program.connect() as quiet, program.connect() as busy:
        quiet.setblocking(False)
        while True:
            assert echoes(busy)
            with contextlib.suppress(BlockingIOError):
                assert quiet.recv(1) == b""
                break
            time.sleep(0.05)  # a client that says something now and then
        assert echoes(busy)


def share_of_a_core(program: Rung, seconds: float = 0.5) -> float:
    before, began = program.cpu_seconds(), time.monotonic()
    time.sleep(seconds)  # the span that is measured
    return (program.cpu_seconds() - before) / (time.monotonic() - began)


# -- S1 to S3: one client -------------------------------------------------------------------------


def test_s01_two_clients():
    with rung("answers/s01_two_clients") as program:
        for _ in range(2):
            with program.connect() as client:
                assert receive_all(client) == b""
        assert program.ended() == 0
        assert program.out.count("I got a connection from (") == 2


def test_s01_both_names():
    with rung("answers/s01_both_names") as program:
        with program.connect() as client:
            port = client.getsockname()[1]
            assert receive_all(client) == b""
        assert program.ended() == 0
        listener, here, there = program.out.splitlines()
        assert f"{program.port})" in listener
        assert f"{program.port})" in here
        assert f"{port})" in there


def test_s01_busy_port():
    with rung("answers/s01_busy_port") as program:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            done = subprocess.run(
                [sys.executable, str(LADDER / "answers/s01_busy_port.py"), "127.0.0.1", str(port)],
                capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == f"can't listen at 127.0.0.1, port {port}: Address already in use\n"
        program.connect().close()
        assert program.ended() == 0


def test_s02_large():
    with rung("answers/s02_large") as program:
        with program.connect() as client:
            client.sendall(b"he")
            wait_until(lambda: "b'he'!" in program.out, "the first piece is read")
            client.sendall(b"llo\nmore\n")
            assert program.ended() == 0
        assert program.out.splitlines()[1:] == [
            "I got data: b'he'!",
            "I got data: b'llo\\nmore\\n'!",
            "All the data is: b'hello\\n'",
        ]


def test_s02_rest():
    with rung("answers/s02_rest") as program:
        with program.connect() as client:
            client.sendall(b"one\ntw")
            wait_until(lambda: "b'one\\ntw'!" in program.out, "the first piece is read")
            client.sendall(b"o\n")
            assert program.ended() == 0
        assert [line for line in program.out.splitlines() if "next line" in line] == [
            "The next line is: b'one\\n'",
            "The next line is: b'two\\n'",
        ]


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
def test_s02_deadline(drips):
    with rung("answers/s02_deadline", 0.5) as program:
        with program.connect() as client, contextlib.suppress(OSError):
            while drips and program.process.poll() is None:
                client.sendall(b"x")
                time.sleep(0.02)  # a client that is slow
            program.ended()
        assert program.ended() == 0
        assert program.out.endswith("It took too long.\n")


def test_s02_deadline_leaves_who_is_in_time_alone():
    with rung("answers/s02_deadline", 30) as program:
        with program.connect() as client:
            client.sendall(b"hello\n")
            assert program.ended() == 0
        assert program.out.endswith("All the data is: b'hello\\n'\n")


def test_s03_no_hang_up():
    with rung("answers/s03_no_hang_up") as program:
        with program.connect() as client:
            client.sendall(b"hello\nand more\n")
            with pytest.raises(ConnectionResetError):
                receive_all(client)
        assert program.ended() == 0


def test_s03_deadline():
    with rung("answers/s03_deadline") as program:
        with program.connect() as client:
            client.sendall(b"hello\n")
            assert receive_exactly(client, 14) == b"Buffer: hello\n"
            with contextlib.suppress(OSError):
                while program.process.poll() is None:  # never silent
                    client.sendall(b"and another thing\n")
                    time.sleep(0.02)  # a client that goes on talking
        assert program.ended() == 0


def test_s03_large_answer():
    with rung("answers/s03_large_answer") as program:
        with program.connect() as client:
            client.sendall(b"0123456789\n")
            wait_until(lambda: "All the data is" in program.out, "the line is read")
            time.sleep(0.3)  # in which nothing may come to an end
            assert "All of it is sent." not in program.out
            assert len(receive_all(client)) == 50_000_000 // 11 * 11
        assert program.ended() == 0
        assert program.out.endswith("All of it is sent.\n")


# -- S4: blocking ---------------------------------------------------------------------------------


def test_s04_threads():
    with rung("answers/s04_threads") as program:
        with program.connect() as first, program.connect() as second:
            assert echoes(second)
            assert echoes(first)
        stopped(program)


def test_s04_patience():
    with rung("answers/s04_patience", 0.3) as program:
        with program.connect() as first, program.connect() as second:
            assert echoes(second)  # as soon as the first was silent for too long
            assert receive_all(first) == b""
        stopped(program)


def test_s04_backlog():
    with rung("answers/s04_backlog") as program:
        with program.connect() as first:
            assert echoes(first)
            with program.connect() as second:
                second.sendall(b"hello\n")
                with pytest.raises(TimeoutError):
                    socket.create_connection(("127.0.0.1", program.port), timeout=0.3)
                first.close()
                assert receive_exactly(second, 6) == b"hello\n"
        stopped(program)


# -- S5 and S6: sockets that do not block ---------------------------------------------------------


def test_s05_try_again():
    with rung("answers/s05_try_again") as program:
        wait_until(lambda: listens(program.port), "it listens")
        time.sleep(0.3)  # nobody is there, some three times
        program.connect().close()
        assert program.ended() == 0
        assert program.out.startswith("I got a connection from (")


def test_s05_timeout():
    with rung("answers/s05_timeout", 0.2) as program:
        assert program.ended() == 0
        assert program.out.splitlines() == [
            "TimeoutError: timed out",
            "Nobody has connected within 0.2 s.",
        ]


@pytest.mark.parametrize("there", [True, False], ids=["a listener", "nobody"])
def test_s05_connect(there):
    with contextlib.ExitStack() as stack:
        port = free_port()
        if there:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        done = subprocess.run(
            [sys.executable, str(LADDER / "answers/s05_connect.py"), "127.0.0.1", str(port)],
            capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
    assert done.stdout.splitlines() == [
        "connect: EINPROGRESS",
        "Connected." if there else "Connection refused",
    ]


def test_s06_how_much():
    with rung("answers/s06_how_much") as program:
        with program.connect() as client:
            assert program.ended() == 0
            said = re.search(r"(\d+) bytes fit\.", program.out)
            assert said is not None
            assert len(receive_all(client)) == int(said[1]) > 0


def test_s06_select():
    with rung("answers/s06_select") as program:
        with program.connect() as client:
            wait_until(lambda: "I got a connection" in program.out, "it is accepted")
            assert share_of_a_core(program, 0.3) < 0.1
            client.sendall(b"hello")
            assert program.ended() == 0
        assert program.out.endswith("I got data: b'hello'!\n")


def test_s06_dontwait():
    with rung("answers/s06_dontwait") as program:
        with program.connect() as client:
            wait_until(lambda: "said nothing yet" in program.out, "it does not wait")
            client.sendall(b"hello")
            assert program.ended() == 0
        assert program.out.endswith("I got data: b'hello'!\n")


# -- S7 to S9: one thread for all -----------------------------------------------------------------


def test_s07_nap():
    with rung("answers/s07_nap") as program:
        with program.connect() as client:
            assert echoes(client)
            assert share_of_a_core(program) < 0.1
            assert echoes(client)
        stopped(program)


def test_s07_no_copy():
    with rung("answers/s07_no_copy") as program:
        with program.connect() as stays:
            assert echoes(stays)
            program.connect().close()
            assert program.ended() == 1
        assert "RuntimeError: dictionary changed size during iteration" in program.error


def test_s07_limit():
    with rung("answers/s07_limit", 1) as program:
        with program.connect() as first:
            assert echoes(first)
            with program.connect() as second:
                assert receive_all(second) == b"come back later\r\n"
            assert echoes(first)

        def served() -> bool:
            with program.connect() as third, contextlib.suppress(ConnectionError):
                third.sendall(b"hello\n")
                third.shutdown(socket.SHUT_WR)
                return receive_all(third) == b"hello\n"
            return False

        wait_until(served, "there is a place again")
        stopped(program)


def test_s08_no_unregister():
    with rung("answers/s08_no_unregister") as program:
        with program.connect() as client:
            assert exchange(client, b"hello\n") == b"hello\n"
        program.connect().close()
        assert program.ended() == 1
        assert re.search(r"KeyError: .*already registered", program.error)


def test_s08_idle():
    with rung("answers/s08_idle", 0.5) as program:
        ends_who_is_silent(program)
        assert share_of_a_core(program, 0.3) < 0.1
        stopped(program)


def test_s08_always_write():
    with rung("answers/s08_always_write") as program:
        with program.connect() as client:
            assert echoes(client)
            wait_until(lambda: program.cpu_seconds() > 0.5, "it spins")
            assert echoes(client)
        stopped(program)


def test_s09_blocked():
    with rung("answers/s09_blocked") as program:
        with program.connect() as client:
            began = time.monotonic()
            for _ in range(3):
                assert echoes(client)
            assert time.monotonic() - began > 1
        assert program.interrupted() == 0


def test_s09_idle():
    with rung("answers/s09_idle", 0.5) as program:
        ends_who_is_silent(program)
        wait_until(lambda: "1 s, and nobody was kept waiting" in program.out, "a second")
        stopped(program)
        assert program.out.count("It was silent for too long.") == 1


def test_s09_farewell():
    with rung("answers/s09_farewell") as program:
        with program.connect() as client:
            assert echoes(client)
            # Ctrl-C within the handler would be an error of the handler.
            wait_until(program.sleeps, "its loop waits")
            stopped(program)
            assert receive_all(client) == b"goodbye\r\n"


# -- S10 to S13: asyncio --------------------------------------------------------------------------


def test_s10_await():
    with rung("answers/s10_await") as program:
        with program.connect() as first, program.connect() as second:
            assert echoes(first)
            second.sendall(b"hello\n")
            assert silent(second)
            first.close()
            assert receive_exactly(second, 6) == b"hello\n"
        stopped(program)


def test_s10_patience():
    with rung("answers/s10_patience", 0.5) as program:
        with program.connect() as quiet:
            assert receive_all(quiet) == b""
        with program.connect() as client:
            assert exchange(client, b"hello\n") == b"hello\n"
        stopped(program)


def test_s10_debug():
    with rung("answers/s10_debug") as program:
        assert program.ended() == 1
        assert "ValueError: the socket must be non-blocking" in program.error


def test_s11_two_ports():
    other = free_port()
    with rung("answers/s11_two_ports", other) as program:
        with program.connect() as client:
            assert echoes(client)
        with socket.create_connection(("127.0.0.1", other), timeout=PATIENCE) as client:
            assert echoes(client)
        stopped(program)


def test_s11_boom():
    with rung("answers/s11_boom") as program:
        with program.connect() as other, program.connect() as client:
            assert echoes(other)
            client.sendall(b"boom\n")
            assert receive_all(other) == b""
            assert program.ended() == 1
        assert "ExceptionGroup" in program.error
        assert "RuntimeError: boom" in program.error


def test_s11_semaphore():
    with rung("answers/s11_semaphore") as program:
        with program.connect() as first, program.connect() as second:
            assert echoes(first)
            assert echoes(second)
            with program.connect() as third:
                third.sendall(b"hello\n")
                assert silent(third)
                first.close()
                assert receive_exactly(third, 6) == b"hello\n"
        stopped(program)


def test_s12_apology():
    with rung("answers/s12_apology") as program:
        with program.connect() as client:
            client.sendall(b"boom\n")
            assert receive_all(client) == b"sorry, that was our fault\r\n"
        wait_until(lambda: "RuntimeError: boom" in program.error, "it is told")
        assert program.interrupted() == 0


def test_s12_strict():
    with rung("answers/s12_strict") as program:
        with program.connect() as client:
            assert exchange(client, b"x" * 65536 + b"\n") == b"x" * 65536 + b"\n"
        with program.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(b"x" * 65537 + b"\n")
            assert b"\n" not in receive_all(client)
        wait_until(lambda: "a line longer than 65536 bytes" in program.error, "it is told")
        assert program.interrupted() == 0


def test_s12_patience():
    with rung("answers/s12_patience", 0.5) as program:
        with program.connect() as client:
            assert echoes(client)
            assert receive_all(client) == b""
        wait_until(lambda: "took longer than 0.5 s" in program.error, "it is told")
        stopped(program)


def closes_its_listener(program: Rung) -> None:
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not listens(program.port), "it has stopped listening")


def test_s13_drain():
    with rung("answers/s13_drain", 30) as program:
        with program.connect() as client:
            assert echoes(client)
            closes_its_listener(program)
            assert echoes(client)
        assert program.ended() == 0
        assert "Traceback" not in program.error


def test_s13_drain_has_an_end():
    with rung("answers/s13_drain", 0.3) as program:
        with program.connect() as client:
            assert echoes(client)
            closes_its_listener(program)
            assert receive_all(client) == b""
        assert program.ended() == 0


def test_s13_limit():
    with rung("answers/s13_limit", 1) as program:
        with program.connect() as first:
            assert echoes(first)
            with program.connect() as second:
                assert receive_all(second) == b"come back later\r\n"
            assert echoes(first)
        stopped(program)


def test_s13_second_signal():
    with rung("answers/s13_second_signal") as program:
        with program.connect() as client:
            assert echoes(client)
            closes_its_listener(program)
            assert echoes(client)
            program.process.send_signal(signal.SIGTERM)
            assert receive_all(client) == b""
        assert program.ended() == 0
        assert "Traceback" not in program.error


# -- S14: the server ------------------------------------------------------------------------------


def options(name: str) -> list[str]:
    """What the answer to an exercise gives ``anysock serve``."""
    page = DOCS / "tutorial" / "s14.md"
    answer = page.read_text().partition(f"```{{exercise}} {name}\n")[2].partition("\n```\n")[0]
    found = re.search(r"`anysock serve (.*)`", answer.partition("+++")[2])
    assert found is not None
    return found[1].split()


def test_s14_idle(start_server):
    with start_server("echo", *options("s14_idle")).connect() as client:
        assert echoes(client)
        assert receive_all(client) == b""


def test_s14_limit(start_server):
    server = start_server("echo", *options("s14_limit"))
    server.expected_errors.append("further clients wait")
    with server.connect() as first, server.connect() as second:
        assert echoes(first)
        assert echoes(second)
        with server.connect() as third:
            third.sendall(b"hello\n")
            assert silent(third)
            first.close()
            assert receive_exactly(third, 6) == b"hello\n"


def test_s14_drain(start_server):
    for _ in range(20):
        server = start_server("echo", *options("s14_drain"))
        with server.connect() as client:
            assert echoes(client)
            server.signal(signal.SIGTERM)
            spoke = time.monotonic()
            try:
                while listens(server.port):
                    assert echoes(client)
                    spoke = time.monotonic()
                assert echoes(client)
            except (AssertionError, OSError):
                # Who says nothing for 0.25 s is not in the middle of something; on a busy machine
                # that may be this test.
                if time.monotonic() - spoke < 0.2:
                    raise
                continue
        assert server.wait() == 0
        return
    raise AssertionError("the machine is too busy to tell")


# -- S15: completion ------------------------------------------------------------------------------


def test_s15_one_buffer():
    with rung("answers/s15_one_buffer") as program:
        with program.connect() as first, program.connect() as second:
            assert echoes(first, b"a" * 10)
            assert echoes(second, b"b" * 10)
            # Both are received before either is answered.
            with program.stopped():
                first.sendall(b"a" * 10)
                second.sendall(b"b" * 10)
            assert receive_exactly(first, 10) == receive_exactly(second, 10)
        stopped(program)


def test_s15_file(tmp_path):
    file = tmp_path / "greeting"
    file.write_text("hello, everybody\n")
    with rung("answers/s15_file", file) as program:
        for _ in range(2):
            with program.connect() as client:
                assert receive_exactly(client, 17) == b"hello, everybody\n"
                assert echoes(client)
        stopped(program)


def test_s15_idle():
    with rung("answers/s15_idle", 0.5) as program:
        ends_who_is_silent(program)
        stopped(program)


def test_s15_idle_that_is_over_is_forgotten():
    with rung("answers/s15_idle", 60) as program:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(program.connect()) for _ in range(300)]
            for client in clients:
                assert echoes(client)
            # 600 operations at once, in links of two.
            with program.stopped():
                for client in clients:
                    client.sendall(b"hello\n")
            for client in clients:
                assert receive_exactly(client, 6) == b"hello\n"
            stopped(program)
