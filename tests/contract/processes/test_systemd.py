"""Under systemd: sockets that it hands over, and what it is told.

The real `systemd-socket-activate` where that suffices; else a socket of the test's own stands for
the service manager.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE, exchange, free_port, receive_all, receive_exactly, wait_until

AS_SYSTEMD = (sys.executable, "-I", "-S", str(Path(__file__).parents[2] / "as_systemd_does.py"))

LOOPBACK = ("127.0.0.1", 0)


@pytest.fixture(scope="module")
def socket_activate():
    found = shutil.which("systemd-socket-activate")
    if found is None:
        assert not os.environ.get("CI"), "systemd-socket-activate is not installed"
        pytest.skip("systemd-socket-activate is not installed")
    return found


def handing_over(*sockets: socket.socket) -> dict[str, Any]:
    """Arguments of `start_server`, to start it with these sockets from 3 on."""
    fds = [sock.fileno() for sock in sockets]
    return {"wrapper": (*AS_SYSTEMD, ",".join(map(str, fds))), "pass_fds": fds}


def ask(address, data: bytes) -> bytes:
    with socket.create_connection(address, timeout=PATIENCE) as client:
        return exchange(client, data)


def ask_when_it_listens(port: int, data: bytes) -> bytes:
    def connected():
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    with wait_until(connected, "it listens") as client:
        return exchange(client, data)


# -- sockets that are handed over ---------------------------------------------------------------


@pytest.mark.parametrize("engine", ["blocking", "selector"])
def test_systemd_starts_it_when_the_first_client_comes(engine, start_server, socket_activate):
    port = free_port()
    answers: list[bytes] = []
    first = threading.Thread(target=lambda: answers.append(ask_when_it_listens(port, b"first")))
    first.start()
    activate = (socket_activate, "-l", f"127.0.0.1:{port}", "-E", "PYTHONPATH", "--fdname=web")
    server = start_server(engine=engine, bind="systemd://web", wrapper=activate)
    first.join(PATIENCE)
    assert answers == [b"first"]
    assert server.port == port
    assert server.ask(b"second") == b"second"


def test_all_sockets_that_are_handed_over_are_served(engine, start_server, tmp_path):
    with (
        socket.create_server(LOOPBACK) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        path = str(tmp_path / "echo")
        unix.bind(path)
        unix.listen()
        server = start_server(engine=engine, bind="systemd://", **handing_over(tcp, unix))
        assert ask(tcp.getsockname(), b"hello") == b"hello"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert exchange(client, b"hello") == b"hello"
        server.wait_for(f"listening on unix://{path}")
        server.signal()
        assert server.wait() == 0
        assert os.path.exists(path), "it is systemd's"


def test_a_name_takes_its_sockets_and_no_others(start_server):
    with socket.create_server(LOOPBACK) as other, socket.create_server(LOOPBACK) as web:
        names = {"LISTEN_FDNAMES": "other:web"}
        server = start_server(bind="systemd://web", environment=names, **handing_over(other, web))
        assert server.port == web.getsockname()[1]
        assert len(server.matching("listening on")) == 1


def test_over_a_restart_nobody_is_refused(engine, start_server):
    """systemd holds the socket: who comes in between waits for the next one."""
    with socket.create_server(LOOPBACK) as listener:
        first = start_server(engine=engine, bind="systemd://", **handing_over(listener))
        assert first.ask(b"first") == b"first"
        with first.connect() as busy:
            busy.sendall(b"x")
            receive_exactly(busy, 1)
            first.signal()
            first.wait_for("draining")
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as between:
                between.sendall(b"between")
                assert first.wait() == 0
                second = start_server(engine=engine, bind="systemd://", **handing_over(listener))
                assert receive_exactly(between, 7) == b"between"
        assert second.ask(b"second") == b"second"


def test_the_programs_that_it_starts_are_told_nothing(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import subprocess\n"
        "async def what_a_child_has(connection):\n"
        "    shown = subprocess.run('env; ls -l /proc/self/fd', shell=True, close_fds=False,\n"
        "                           stdout=subprocess.PIPE, check=True).stdout\n"
        "    await connection.send_all(shown)\n"
    )
    with (
        socket.create_server(LOOPBACK) as one,
        socket.create_server(LOOPBACK) as other,
        manager(tmp_path) as systemd,
    ):
        told = {"LISTEN_FDNAMES": "one:other", "WATCHDOG_USEC": "9000000", **systemd.environment}
        server = start_server(
            "mine:what_a_child_has", cwd=tmp_path, bind="systemd://one", environment=told,
            **handing_over(one, other),
        )  # fmt: skip
        seen = server.ask(b"").decode()
        server.signal()
        assert server.wait() == 0
    assert "PATH=" in seen
    for word in ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "socket:"):
        assert word not in seen


@contextlib.contextmanager
def what_is_no_listener(kind: str) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        if kind == "file":
            yield stack.enter_context(open(os.devnull)).fileno()
        elif kind == "datagrams":
            yield stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno()
        elif kind == "connected":
            one, other = socket.socketpair()
            stack.enter_context(other)
            yield stack.enter_context(one).fileno()
        else:
            yield stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)).fileno()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("file", "can't listen on fd://3: it is no socket"),
        ("datagrams", "no stream socket (in a .socket unit: ListenStream=)"),
        ("connected", "it does not listen (in a .socket unit: Accept=no)"),
        ("netlink", "it is neither TCP nor a Unix socket"),
    ],
)
def test_what_does_not_listen_is_one_clear_line(kind, told):
    with what_is_no_listener(kind) as fd:
        done = start_and_fail([fd], "systemd://")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert told in line


def test_what_is_for_another_process_is_one_clear_line():
    with socket.create_server(LOOPBACK) as listener:
        # A shell between systemd and us, which it was told was meant.
        done = start_and_fail([listener.fileno()], "systemd://", "sh", "-c", '"$@"; exit $?', "sh")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "systemd://: systemd has handed over no socket (LISTEN_PID, LISTEN_FDS)" in line


def start_and_fail(fds: list[int], bind: str, *between: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_SYSTEMD, ",".join(map(str, fds)), *between,
         sys.executable, "-m", "anysock", "serve", "--bind", bind],
        pass_fds=fds, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


# -- what systemd is told -----------------------------------------------------------------------


class Manager:
    """Stands for systemd: hears what it is told, and when."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.environment = {"NOTIFY_SOCKET": name}
        self._sock = sock
        self.heard: list[tuple[float, str]] = []

    def listen(self, seconds: float) -> bool:
        """Wait for a message; whether one came."""
        if not select.select([self._sock], [], [], seconds)[0]:
            return False
        message = self._sock.recv(10_000).decode()
        self.heard.append((time.monotonic(), message))
        return True

    def hear(self, words: str, seconds: float = PATIENCE) -> str:
        """Wait for a message with `words`; those before it are thrown away, and it, too."""
        end = time.monotonic() + seconds
        while True:
            while self.heard:
                _, message = self.heard.pop(0)
                if words in message:
                    return message
            assert self.listen(max(end - time.monotonic(), 0)), f"was not told {words!r}"

    def pings(self, seconds: float) -> list[float]:
        """When the watchdog is told that all is well, within so many seconds."""
        end = time.monotonic() + seconds
        self.heard.clear()
        while (left := end - time.monotonic()) > 0:
            self.listen(left)
        return [when for when, message in self.heard if message == "WATCHDOG=1"]


@contextlib.contextmanager
def manager(folder: Path, abstract: bool = False) -> Iterator[Manager]:
    name = f"@{folder}" if abstract else str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if abstract else name)
        yield Manager(sock, name)


# To be asked for before `start_server`: it must hear to the end of what that starts.
@pytest.fixture
def systemd(tmp_path):
    with manager(tmp_path) as systemd:
        yield systemd


def test_it_is_told_of_the_start_the_reload_and_the_end(systemd, engine, start_server):
    server = start_server(engine=engine, environment=systemd.environment)
    ready = f"READY=1\nSTATUS=listening on tcp://127.0.0.1:{server.port} ({engine})"
    assert systemd.hear("") == ready
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    server.signal(signal.SIGHUP)
    reloading, began = systemd.hear("").split("\n")
    assert reloading == "RELOADING=1"
    assert int(began.removeprefix("MONOTONIC_USEC=")) >= before
    assert systemd.hear("") == ready
    assert server.ask(b"hello") == b"hello"
    server.signal()
    stopping, status, extended = systemd.hear("").split("\n")
    assert stopping == "STOPPING=1"
    assert re.fullmatch("STATUS=draining: [01] connections left", status)
    assert extended.startswith("EXTEND_TIMEOUT_USEC=")
    assert systemd.hear("") == "STATUS=drained, 0 connections aborted"
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_it_is_told_of_the_drain_from_the_delay_on(systemd, engine, start_server):
    """And by when it will be over: TimeoutStopSec may be shorter than our own time-out."""
    server = start_server(
        *("echo", "--drain-delay", "200ms", "--drain-timeout", "30s"),
        engine=engine,
        environment=systemd.environment,
    )
    with server.connect() as busy:
        stop = threading.Event()

        def chatter() -> None:
            while not stop.wait(0.05):
                busy.sendall(b"x")
                receive_exactly(busy, 1)

        talker = threading.Thread(target=chatter)
        talker.start()
        server.wait_for("I got a connection")
        systemd.hear("READY=1")
        server.signal()
        assert systemd.hear("") == (
            "STOPPING=1\nSTATUS=draining begins in 0.2 s\nEXTEND_TIMEOUT_USEC=5200000"
        )
        stopping, status, extended = systemd.hear("").split("\n")
        assert (stopping, status) == ("STOPPING=1", "STATUS=draining: 1 connections left")
        assert 33e6 < int(extended.removeprefix("EXTEND_TIMEOUT_USEC=")) <= 34.9e6
        status, extended = systemd.hear("").split("\n")
        assert status == "STATUS=draining: 1 connections left"
        assert 31e6 < int(extended.removeprefix("EXTEND_TIMEOUT_USEC=")) <= 33.9e6
        stop.set()
        talker.join()
    assert systemd.hear("drained") == "STATUS=drained, 0 connections aborted"
    assert server.wait() == 0


def test_the_watchdog_hears_from_every_engine_to_the_end(systemd, engine, start_server):
    environment = {"WATCHDOG_USEC": "200000", **systemd.environment}
    began = time.monotonic()
    server = start_server(engine=engine, environment=environment, wrapper=(*AS_SYSTEMD, ""))
    # Where tasks are threads, the watchdog's is one more.
    server.base_threads += engine in ("blocking", "threads")
    systemd.hear("READY=1")
    # (On a busy machine several are heard at once, but no more than there was time for.)
    assert 2 <= len(systemd.pings(0.5)) <= (time.monotonic() - began) / 0.1 + 1
    with server.connect() as busy:
        busy.sendall(b"x")
        receive_exactly(busy, 1)
        server.signal()
        systemd.hear("STOPPING=1")
        systemd.hear("WATCHDOG=1")  # a drain may take long, and the service lives
        assert receive_all(busy) == b""
    assert server.wait() == 0


def test_the_watchdog_hears_nothing_while_a_handler_blocks_the_loop(
    systemd, start_server, tmp_path
):
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "async def sleeper(connection):\n"
        "    while await connection.recv():\n"
        "        time.sleep(1)\n"
        "        await connection.send_all(b'awake')\n"
    )
    server = start_server(
        "mine:sleeper",
        cwd=tmp_path,
        environment={"WATCHDOG_USEC": "100000", **systemd.environment},
        wrapper=(*AS_SYSTEMD, ""),
    )
    with server.connect() as client:
        systemd.hear("WATCHDOG=1")
        began = time.monotonic()
        client.sendall(b"x")
        pings = [when - began for when in systemd.pings(1.8)]
        assert receive_exactly(client, 5) == b"awake"
    # One may have been on its way when the handler began to sleep.
    assert not [when for when in pings if 0.2 < when < 0.95], "who has said that all is well?"
    assert len(pings) >= 4, "it has not come back"


def test_a_watchdog_that_is_for_another_process_hears_nothing(systemd, start_server):
    start_server(
        environment={
            "WATCHDOG_USEC": "20000",
            "WATCHDOG_PID": str(os.getpid()),
            **systemd.environment,
        }
    )
    systemd.hear("READY=1")
    assert systemd.pings(0.2) == []


def test_a_server_without_descriptors_can_still_say_that_it_lives(systemd, start_server):
    environment = {"WATCHDOG_USEC": "100000", **systemd.environment}
    server = start_server(environment=environment, wrapper=(*AS_SYSTEMD, ""))
    server.expected_errors.append("can't accept a connection")
    server.limit_fds(server.fds())
    with server.connect():
        server.wait_for("can't accept a connection")
        assert len(systemd.pings(0.5)) >= 3
        server.limit_fds(100)


def test_a_supervisor_of_workers_tells_for_all(systemd, start_server):
    environment = {"WATCHDOG_USEC": "200000", **systemd.environment}
    with socket.create_server(LOOPBACK) as listener:
        server = start_server(
            *("echo", "--workers", "2", "--drain-delay", "200ms"),
            bind="systemd://",
            environment=environment,
            **handing_over(listener),
        )
        serving = f"READY=1\nSTATUS=listening on tcp://127.0.0.1:{server.port} (selector)"
        assert systemd.hear("READY") == serving
        assert server.ask(b"hello") == b"hello"
        server.signal(signal.SIGHUP)
        systemd.hear("RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.hear("READY") == serving
        server.wait_for("takes the place", times=2)
        assert 2 <= len(systemd.pings(0.5)) <= 6
        server.signal()
        systemd.hear("STOPPING=1\nSTATUS=draining begins in 0.2 s\nEXTEND_TIMEOUT_USEC=5200000")
        systemd.hear("STOPPING=1\nSTATUS=draining: 0 connections left")
        assert server.wait() == 0


def test_workers_know_nothing_of_systemd(systemd, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "async def environment(connection):\n"
        "    await connection.send_all(' '.join(os.environ).encode())\n"
    )
    with socket.create_server(LOOPBACK) as listener:
        server = start_server(
            *("mine:environment", "--workers", "2"),
            bind="systemd://",
            cwd=tmp_path,
            environment=systemd.environment,
            **handing_over(listener),
        )
        seen = server.ask(b"").decode()
        assert "PATH" in seen
        assert not [word for word in ("LISTEN", "NOTIFY", "WATCHDOG") if word in seen]
        server.signal()
        assert server.wait() == 0


def test_an_abstract_socket_hears_too(start_server, tmp_path):
    with manager(tmp_path, abstract=True) as systemd:
        server = start_server(environment=systemd.environment)
        assert systemd.hear("").startswith("READY=1")
        server.signal()
        assert server.wait() == 0


def test_a_manager_that_does_not_hear_is_one_warning(start_server, tmp_path):
    gone = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "50000"}
    server = start_server(environment=gone, wrapper=(*AS_SYSTEMD, ""))
    server.expected_errors.append("can't tell systemd")
    assert server.ask(b"hello") == b"hello"
    server.signal()
    assert server.wait() == 0
    [told] = server.matching("warning")
    assert "No such file or directory" in told.string
