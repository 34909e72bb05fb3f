"""Behind the real HAProxy: the client's address, health checks, a server taken out and put back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness import (
    PATIENCE,
    ServerProcess,
    free_port,
    receive_all,
    receive_exactly,
    wait_until,
)

CONFIGURATION = """
global
    stats socket {folder}/haproxy.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch
    retries 3
frontend echo
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    balance roundrobin
    default-server inter 100ms fall 2 rise 2 {options}
"""

WHO = """
import json
async def who(connection):
    await connection.recv()
    told = [connection.peer, connection.via]
    await connection.send_all(json.dumps(told).encode() + b"\\n")
"""


class Haproxy:
    """HAProxy in front of some servers."""

    def __init__(
        self, folder: Path, servers: list[ServerProcess], options: str, checks: Sequence[int] = ()
    ) -> None:
        path = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        if path is None:
            message = "haproxy is not installed here: apt-get install haproxy"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        self.folder = folder
        self.port = free_port()
        text = CONFIGURATION.format(folder=folder, port=self.port, options=options)
        for number, server in enumerate(servers, 1):
            check = f" check port {checks[number - 1]}" if checks else ""
            text += f"    server s{number} 127.0.0.1:{server.port}{check}\n"
        (folder / "haproxy.cfg").write_text(text)
        self.process = subprocess.Popen(
            [path, "-db", "-f", str(folder / "haproxy.cfg")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number, _ in enumerate(servers, 1):
            self.wait_for_state(number, "UP", "no check")

    def say(self, command: str) -> str:
        """Say something to its stats socket; what it answers."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.settimeout(PATIENCE)
            stats.connect(str(self.folder / "haproxy.sock"))
            stats.sendall(command.encode() + b"\n")
            return receive_all(stats).decode()

    def state(self, number: int) -> dict[str, str]:
        with contextlib.suppress(OSError):
            head, *rows = self.say("show stat").lstrip("# ").splitlines()
            for row in rows:
                found = dict(zip(head.split(","), row.split(","), strict=False))
                if found.get("svname") == f"s{number}":
                    return found
        return {}

    def wait_for_state(self, number: int, *status: str) -> None:
        wait_until(
            lambda: self.state(number).get("status", "").startswith(status),
            f"s{number} is {' or '.join(status)}",
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def haproxy(
    tmp_path: Path, servers: list[ServerProcess], options: str, checks: Sequence[int] = ()
) -> Iterator[Haproxy]:
    proxy = Haproxy(tmp_path, servers, options, checks)
    try:
        yield proxy
    finally:
        proxy.end()


REQUIRED = ("--proxy-protocol", "required", "--proxy-from", "127.0.0.1")


@pytest.mark.parametrize("options", ["send-proxy check", "send-proxy-v2 check"])
def test_the_peer_is_the_client_of_haproxy(start_server, tmp_path, options):
    (tmp_path / "mine.py").write_text(WHO)
    server = start_server("mine:who", *REQUIRED, cwd=tmp_path)
    with haproxy(tmp_path, [server], options) as proxy, proxy.connect() as client:
        client.sendall(b"who am I?")
        peer, via = json.loads(receive_all(client))
        assert tuple(peer) == client.getsockname()
        assert via[0] == "127.0.0.1"
        assert via[1] not in (proxy.port, peer[1])


def test_every_engine_echoes_behind_it(engine, start_server, tmp_path):
    # One that serves one at a time has no time for health checks.
    check = "" if engine == "blocking" else "check"
    server = start_server("echo", *REQUIRED, engine=engine)
    with haproxy(tmp_path, [server], f"send-proxy-v2 {check}") as proxy:
        for size in (1, 100_000):
            data = os.urandom(size)
            with proxy.connect() as client:
                client.sendall(data)
                assert receive_exactly(client, size) == data


@pytest.mark.parametrize("check", ["check", "check check-send-proxy"])
def test_its_health_checks_make_no_noise(start_server, tmp_path, check):
    server = start_server("echo", *REQUIRED)
    with haproxy(tmp_path, [server], f"send-proxy-v2 {check}") as proxy:
        server.wait_for("I got a connection", times=10)
        assert proxy.state(1)["status"] == "UP"
    assert not server.matching("^(warning|error)")


def test_a_server_that_is_not_there_is_down_and_then_up(start_server, tmp_path):
    first, second = start_server("echo", *REQUIRED), start_server("echo", *REQUIRED)
    with haproxy(tmp_path, [first, second], "send-proxy-v2 check") as proxy:
        port = second.port
        second.signal()
        assert second.wait() == 0
        proxy.wait_for_state(2, "DOWN")
        start_server("echo", *REQUIRED, bind=f"127.0.0.1:{port}")
        proxy.wait_for_state(2, "UP")


def test_a_server_taken_out_and_put_back_under_load_loses_nobody(start_server, tmp_path):
    first, second = start_server("echo", *REQUIRED), start_server("echo", *REQUIRED)
    over = threading.Event()
    failures: list[Exception] = []
    answered = [0]

    def talk() -> None:
        while not over.is_set():
            try:
                with proxy.connect() as client:
                    for _ in range(5):
                        client.sendall(b"hello")
                        assert receive_exactly(client, 5) == b"hello"
                        answered[0] += 1
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    with haproxy(tmp_path, [first, second], "send-proxy-v2 check") as proxy:
        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            proxy.say("set server servers/s1 state drain")
            proxy.wait_for_state(1, "DRAIN")
            wait_until(lambda: proxy.state(1)["scur"] == "0", "nobody is on s1 any more")
            before = answered[0]
            wait_until(lambda: answered[0] > before + 200, "they go on")  # noqa: B023
            proxy.say("set server servers/s1 state ready")
            proxy.wait_for_state(1, "UP")
            served = int(proxy.state(1)["stot"])
            wait_until(
                lambda: int(proxy.state(1)["stot"]) > served + 20,  # noqa: B023
                "s1 is used again",
            )
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert answered[0] > 600


@pytest.mark.parametrize("delay", ["1500ms", "0"])
def test_who_asks_whether_it_is_ready_loses_nobody_when_it_ends(start_server, tmp_path, delay):
    """Without a second try of HAProxy's. Without a delay, clients are lost: it is what helps."""
    checks = [free_port(), free_port()]
    servers = [
        start_server("echo", "--drain-delay", delay, "--admin", f"127.0.0.1:{port}")
        for port in checks
    ]
    for server in servers:
        server.base_threads += 1  # the endpoint's
    options = "\n    option httpchk GET /readyz\n    no option redispatch\n    retries 0"
    failures = 0
    with haproxy(tmp_path, servers, options, checks) as proxy:

        def ask() -> None:
            nonlocal failures
            with proxy.connect() as client:
                try:
                    client.sendall(b"hello")
                    assert receive_exactly(client, 5) == b"hello"
                except (ConnectionResetError, BrokenPipeError, AssertionError):
                    failures += 1

        for _ in range(10):
            ask()
        servers[0].signal()
        servers[0].wait_for("not ready any more" if delay != "0" else "draining")
        while servers[0].process.poll() is None:
            ask()
        for _ in range(10):
            ask()
    assert servers[0].wait() == 0
    assert (failures == 0) == (delay != "0")
