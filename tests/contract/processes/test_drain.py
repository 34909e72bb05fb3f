"""Contract 8: SIGTERM drains: quiet connections end, busy ones finish, all share one deadline.

When each of that happens, is looked at in a simulated network: `simulated/test_draining.py`. Here,
it happens at once under each engine that serves several clients, and alone under the other.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from tests.harness import (
    ServerProcess,
    assert_a_drain_loses_nothing,
    receive_all,
    receive_exactly,
    send_until_stuck,
    sleeps,
    wait_until,
)


def test_a_server_without_clients_ends_at_once(engine, start_server):
    server = start_server(engine=engine)
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    # (Who is at rest for a quarter of a second is ended, so that any wait would be longer.)
    server.wait_for(r"drained in 0\.[01]")


# Each as its first line says.
KINDS = """
import sys
import anysock
from anysock.handlers.chargen import chargen
from anysock.handlers.echo import echo
from anysock.handlers.lines import make_lines

async def handler(connection):
    kind = (await connection.recv_line()).strip().decode()
    await connection.send_all(b"here")
    await globals()[kind](connection)

lines = make_lines()

async def much(connection):
    await connection.send_all(bytes(50_000_000))

async def sleeps(connection):
    try:
        await anysock.sleep(3600)
    finally:
        print("cleaned up", file=sys.stderr, flush=True)
"""


def client_of_kind(server: ServerProcess, kind: str, stack: ExitStack) -> socket.socket:
    client = stack.enter_context(server.connect())
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(kind.encode() + b"\n")
    assert receive_exactly(client, 4) == b"here"
    return client


def test_everybody_ends_as_he_should(concurrent_engine, start_server, tmp_path):
    """All that is looked at to the moment in `simulated/test_draining.py`, at once, with real
    clients."""
    (tmp_path / "mine.py").write_text(KINDS)
    server = start_server(
        *("mine:handler", "--drain-timeout", "4s"),
        engine=concurrent_engine,
        cwd=tmp_path,
        expected_code=1,
    )
    server.expected_errors += ["aborted the connection", "[23] connections were aborted"]
    with ExitStack() as stack:
        kinds = ("echo", "lines", "echo", "echo", "chargen", "echo", "much", "sleeps")
        clients = [client_of_kind(server, kind, stack) for kind in kinds]
        quiet, half, paused, busy, chargen, endless, stuck, _asleep = clients
        half.sendall(b"half a li")
        sent = send_until_stuck(paused, 32_000_000, quiet=0.1)
        stop = threading.Event()
        stack.callback(stop.set)
        silences: list[float] = []
        talker = threading.Thread(target=chatter, args=(endless, stop, silences))
        talker.start()
        began = time.monotonic()
        server.signal()
        server.wait_for("draining: 8 connections left")
        assert server.refuses()
        reader = threading.Thread(target=receive_all, args=(chargen,))
        reader.start()
        spoke = time.monotonic()
        while time.monotonic() - began < 0.6:  # longer than one at rest is left in peace
            busy.sendall(b"busy")
            if not busy.recv(4):
                # On a busy machine we may be held up, and who is silent for so long is ended.
                assert time.monotonic() - spoke > 0.24
                break
            spoke = time.monotonic()
            time.sleep(0.01)
        assert receive_all(quiet) == b""
        assert receive_all(half) == b"half a li"
        assert receive_all(paused) == b"x" * sent
        assert receive_all(busy) == b""
        reader.join()
        assert server.wait() == 1
        assert 4 <= time.monotonic() - began < 10
        with pytest.raises(ConnectionResetError):
            receive_all(stuck)
        talker.join()
    # As above: who is held up for so long is ended, and not aborted.
    assert all(each > 0.24 for each in silences)
    server.wait_for("aborted the connection from", times=3 - len(silences))
    server.wait_for("cleaned up")


def chatter(
    client: socket.socket, stop: threading.Event, silences: list[float] | None = None
) -> None:
    """Talk all the time; the abort arrives as a reset. If it is the end of the stream that comes,
    for how long nothing had been said is added to `silences`."""
    spoke = time.monotonic()
    with suppress(OSError):
        while not stop.is_set():
            client.sendall(b"x")
            if not client.recv(1):
                if silences is not None:
                    silences.append(time.monotonic() - spoke)
                return
            spoke = time.monotonic()
            time.sleep(0.01)  # more would say no more, and cost the core of somebody else


@pytest.mark.parametrize("engine", ["blocking"])
def test_new_connects_are_refused_at_once(engine, start_server):
    server = start_server(engine=engine)
    with server.connect() as busy:
        busy.sendall(b"x")
        receive_exactly(busy, 1)
        server.signal()
        server.wait_for("draining: 1 connections left")
        assert server.refuses()
        assert server.process.poll() is None, "the drain was over before it was looked at"
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_quiet_connection_is_ended(engine, start_server):
    server = start_server(engine=engine)
    with server.connect() as quiet:
        quiet.sendall(b"hello")
        receive_exactly(quiet, 5)
        server.signal()
        assert receive_all(quiet) == b""
        assert server.wait() == 0


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_half_sent_line_comes_back_when_its_sender_is_ended(engine, start_server):
    server = start_server("lines", "-v", engine=engine)
    with server.connect() as quiet:
        quiet.sendall(b"half a li")
        server.wait_for("half a li")
        server.signal()
        assert receive_all(quiet) == b"half a li"
        assert server.wait() == 0


def test_7_mb_in_flight_all_come_back(engine, start_server):
    server = start_server("echo", "--drain-timeout", "30s", engine=engine)
    assert_a_drain_loses_nothing(server)


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_reader_that_pauses_for_longer_than_quiet_loses_nothing(engine, start_server):
    """In flight is also what waits for its reader: no byte moves, yet it is not at rest."""
    server = start_server("echo", "--drain-timeout", "30s", engine=engine)
    with server.connect() as client:
        sent = send_until_stuck(client, 32_000_000, quiet=0.2)
        server.signal()
        server.wait_for("draining")
        time.sleep(0.6)  # longer than a connection at rest is left in peace
        assert receive_all(client) == b"x" * sent
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ["blocking"])
def test_who_takes_too_long_is_aborted(engine, start_server):
    server = start_server("echo", "--drain-timeout", "600ms", engine=engine, expected_code=1)
    server.expected_errors += ["aborted the connection", "1 connections were aborted"]
    stop = threading.Event()
    with server.connect() as endless:
        talker = threading.Thread(target=chatter, args=(endless, stop))
        talker.start()
        server.wait_for("I got a connection")
        began = time.monotonic()
        server.signal()
        assert server.wait() == 1
        assert 0.5 < time.monotonic() - began < 5
        stop.set()
        talker.join()
    server.wait_for("aborted the connection from")


@pytest.mark.parametrize("engine", ["blocking"])
def test_who_never_reads_is_aborted(engine, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "async def much(connection):\n    await connection.send_all(bytes(50_000_000))\n"
    )
    server = start_server(
        "mine:much", "--drain-timeout", "400ms", engine=engine, cwd=tmp_path, expected_code=1
    )
    server.expected_errors += ["aborted the connection", "1 connections were aborted"]
    with server.connect() as client:
        receive_exactly(client, 1000)
        server.signal()
        assert server.wait() == 1
        with pytest.raises(ConnectionResetError):
            receive_all(client)


@pytest.mark.parametrize("engine", ["blocking"])
def test_a_handler_that_sleeps_is_cancelled(engine, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import anysock\n"
        "async def sleeper(connection):\n"
        "    await connection.recv()\n"
        "    try:\n"
        "        await anysock.sleep(3600)\n"
        "    finally:\n"
        "        print('cleaned up', file=__import__('sys').stderr, flush=True)\n"
    )
    server = start_server(
        "mine:sleeper", "--drain-timeout", "300ms", engine=engine, cwd=tmp_path, expected_code=1
    )
    server.expected_errors += ["aborted the connection", "1 connections were aborted"]
    with server.connect() as client:
        client.sendall(b"x")
        server.wait_for("I got a connection")
        server.signal()
        assert server.wait() == 1
    server.wait_for("cleaned up")


@pytest.mark.parametrize("blocked", [False, True], ids=["", "blocked"])
def test_a_second_signal_exits_at_once(engine, start_server, tmp_path, blocked):
    """Even while a handler blocks everything with a sleep that is not ours."""
    (tmp_path / "mine.py").write_text(
        "import anysock, sys, time\n"
        "async def sleeper(connection):\n"
        "    await connection.recv()\n"
        "    print('asleep', file=sys.stderr, flush=True)\n"
        f"    {'time.sleep(60)' if blocked else 'await anysock.sleep(60)'}\n"
    )
    server = start_server("mine:sleeper", engine=engine, cwd=tmp_path, expected_code=1)
    with server.connect() as client:
        client.sendall(b"x")
        server.wait_for("asleep")
        if blocked:
            # A signal that comes just before it sleeps, or sleeps again, is seen when that ends.
            wait_until(lambda: sleeps(server.pid), "it sleeps")
        server.signal(signal.SIGINT)
        if blocked:
            wait_until(lambda: sleeps(server.pid), "it sleeps again")
        else:
            server.wait_for("draining")
        began = time.monotonic()
        # Two signals of one kind that are pending at the same time are one (signal(7)).
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert time.monotonic() - began < 5
    # Of two that are pending at the same time, either may be delivered first.
    server.wait_for("(SIGINT|SIGTERM): exiting at once" if blocked else "SIGTERM: exiting")


@pytest.mark.parametrize("engine", ["blocking", "selector", "uvloop", "trio"])
def test_a_restart_on_the_same_port_works_at_once(engine, start_server):
    first = start_server(engine=engine)
    with first.connect() as client:
        client.sendall(b"hello")
        receive_exactly(client, 5)
        first.signal()
        assert receive_all(client) == b""
        # The server has closed first: its end stays in TIME_WAIT.
    assert first.wait() == 0
    second = start_server(engine=engine, bind=f"127.0.0.1:{first.port}")
    assert second.ask(b"again") == b"again"


def test_a_signal_right_after_the_ready_line_drains(engine, start_server):
    for _ in range(3):
        server = start_server(engine=engine)
        server.signal()
        assert server.wait() == 0


@pytest.mark.parametrize("engine", ["blocking"])
def test_chargen_comes_to_an_end_by_itself(engine, start_server):
    server = start_server("chargen", "--drain-timeout", "30s", engine=engine)
    with server.connect() as client:
        receive_exactly(client, 10_000)
        server.signal()
        receive_all(client)
    assert server.wait() == 0


def test_who_waits_in_the_backlog_is_still_served(concurrent_engine, start_server, tmp_path):
    """Connected, but not accepted yet, when the signal comes: not turned away with a reset."""
    (tmp_path / "mine.py").write_text(
        "import sys, time\n"
        "async def slow_start(connection):\n"
        "    if await connection.recv_line() == b'block\\n':\n"
        "        print('blocked', file=sys.stderr, flush=True)\n"
        "        time.sleep(0.5)\n"
        "    await connection.send_all(b'served')\n"
    )
    server = start_server("mine:slow_start", engine=concurrent_engine, cwd=tmp_path)
    with server.connect() as first:
        first.sendall(b"block\n")
        server.wait_for("blocked")
        # Nobody accepts now (but under `threads`): these connect, and wait in the backlog.
        late = [server.connect() for _ in range(5)]
        server.signal()
        for client in late:
            client.sendall(b"late\n")
        for client in [first, *late]:
            assert receive_all(client) == b"served"
            client.close()
    assert server.wait() == 0


def leave_no_descriptors(server: ServerProcess) -> None:
    server.limit_fds(1 + max(int(number) for number in os.listdir(f"/proc/{server.pid}/fd")))


@pytest.mark.parametrize("engine", ["blocking", "selector"])
def test_without_descriptors_nobody_is_waited_for_who_is_not_there(engine, start_server):
    """accept(2) says EMFILE whether anybody waits or not."""
    server = start_server("echo", "--drain-timeout", "60", engine=engine, python_flags=())
    server.expected_errors.append("can't accept a connection: Too many open files")
    assert server.ask(b"hello") == b"hello"
    wait_until(lambda: server.fds() <= server.base_fds, "it is gone")
    leave_no_descriptors(server)
    server.signal()
    assert server.wait() == 0


def test_who_waits_for_want_of_descriptors_is_served_while_draining(
    concurrent_engine, start_server
):
    """What nobody can accept when the server stops listening stays in the backlog, until others
    have left."""
    server = start_server(
        "echo", "--drain-timeout", "60", engine=concurrent_engine, python_flags=()
    )
    server.expected_errors.append("can't accept a connection: Too many open files")
    served = [server.connect() for _ in range(2)]
    for client in served:
        client.sendall(b"here")
        receive_exactly(client, 4)
    leave_no_descriptors(server)
    late = [server.connect() for _ in range(5)]
    for number, client in enumerate(late):
        client.sendall(b"late %d" % number)
    server.wait_for("can't accept a connection: Too many open files")
    server.signal()
    for client in served:
        assert receive_all(client) == b""
        client.close()
    for number, client in enumerate(late):
        assert receive_all(client) == b"late %d" % number
        client.close()
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_who_waits_for_want_of_descriptors_is_let_go_at_the_deadline(
    engine, start_server, tmp_path
):
    (tmp_path / "mine.py").write_text(
        "import anysock\nasync def stay(connection):\n    await anysock.sleep(60)\n"
    )
    server = start_server(
        *("mine:stay", "--drain-timeout", "1"),
        engine=engine,
        python_flags=(),
        cwd=tmp_path,
    )
    server.expected_code = 1
    server.expected_errors += ["can't accept a connection", "abort"]
    with server.connect():
        server.wait_for("I got a connection")
        leave_no_descriptors(server)
        with server.connect() as waiting:
            server.wait_for("can't accept a connection: Too many open files")
            server.signal()
            assert server.wait() == 1
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)


# -- while there is no room for another thread -----------------------------------------------------

# As pthread_create(3) has it (EAGAIN), from the moment on when the file is there.
_NO_THREADS = """
import os, threading
start = threading.Thread.start
def start_if_there_is_room(thread):
    if os.path.exists("no threads"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_if_there_is_room
"""


def test_it_drains_also_when_clients_have_all_threads(engine, start_server, tmp_path):
    """A signal must end it; where waiting means to sleep, that takes a thread."""
    drains_without_another_thread(start_server, tmp_path, engine)


@pytest.mark.parametrize("engine", ["blocking", "threads"])
def test_workers_drain_also_then(engine, start_server, tmp_path):
    drains_without_another_thread(start_server, tmp_path, engine, workers=2)


def drains_without_another_thread(start_server, tmp_path, engine, workers=1) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NO_THREADS)
    environment = {"PYTHONPATH": str(tmp_path)}
    options = ("--workers", str(workers))
    server = start_server("echo", *options, engine=engine, environment=environment, cwd=tmp_path)
    server.expected_errors = ["can't start a thread"]
    if workers > 1:
        server.wait_for("all workers together")
    with server.connect() as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        (tmp_path / "no threads").touch()
        server.signal()
        assert receive_all(client) == b""
    assert server.wait() == 0
    server.wait_for(r"drained in \d")


@pytest.mark.parametrize("engine", ["blocking", "threads", "selector"])
def test_a_second_signal_ends_it_at_once_even_then(engine, start_server, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_NO_THREADS)
    (tmp_path / "mine.py").write_text(
        "import anysock\n"
        "async def sleeper(connection):\n"
        "    await connection.send_all(b'x')\n"
        "    await anysock.sleep(60)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    server = start_server(
        "mine:sleeper", engine=engine, environment=environment, cwd=tmp_path, expected_code=1
    )
    server.expected_errors = ["a second signal", "can't start a thread"]
    with server.connect() as client:
        receive_exactly(client, 1)
        (tmp_path / "no threads").touch()
        server.signal()
        server.wait_for("draining: 1 connections left")
        server.signal()
        assert server.wait() == 1
