"""Behind the real HAProxy: the client's address, health checks, a server taken out and put back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.commands.running import anysock
from tests.harness import (
    PATIENCE,
    ServerProcess,
    free_port,
    receive_all,
    receive_exactly,
    wait_until,
)
from tests.pki import Pki

CONFIGURATION = """
global
    stats socket {folder}/haproxy.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1
    retries 3
frontend echo
    bind 127.0.0.1:{port} {accepts}
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
        self,
        folder: Path,
        servers: list[ServerProcess],
        options: str,
        checks: Sequence[int] = (),
        accepts: str = "",
    ) -> None:
        path = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        if path is None:
            message = "haproxy is not installed here: apt-get install haproxy"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        self.folder = folder
        self.port = free_port()
        text = CONFIGURATION.format(folder=folder, port=self.port, options=options, accepts=accepts)
        for number, server in enumerate(servers, 1):
            check = f" check port {checks[number - 1]}" if checks else ""
            text += f"    server s{number} 127.0.0.1:{server.port}{check}\n"
        (folder / "haproxy.cfg").write_text(text)
        self.process = subprocess.Popen(
            [path, "-db", "-f", str(folder / "haproxy.cfg")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

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
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def haproxy(
    tmp_path: Path,
    servers: list[ServerProcess],
    options: str,
    checks: Sequence[int] = (),
    accepts: str = "",
) -> Iterator[Haproxy]:
    proxy = Haproxy(tmp_path, servers, options, checks, accepts)
    try:
        for number, _ in enumerate(servers, 1):
            proxy.wait_for_state(number, "UP", "no check")
        yield proxy
    finally:
        proxy.end()


REQUIRED = ("--proxy-protocol", "required", "--proxy-from", "127.0.0.1")


@pytest.mark.parametrize(
    "options",
    ["send-proxy check", "send-proxy-v2 check", "send-proxy-v2 proxy-v2-options crc32c check"],
)
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


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
def test_its_health_checks_make_no_noise(start_server, tmp_path, options):
    """It ends them with a reset. (One that has no header to send it ends so early that accept(2)
    never sees it.)"""
    logs = ("--log-level", "debug", "--log-format", "json")
    server = start_server("echo", *REQUIRED, *logs)
    with haproxy(tmp_path, [server], f"{options} check") as proxy:
        server.wait_for("has ended: closed before its first byte", times=10)
        assert proxy.state(1)["status"] == "UP"
    told = [json.loads(line) for line in server.lines]
    assert not [each for each in told if "peer" in each and each["level"] != "debug"]


def test_a_server_that_is_not_there_is_down_and_then_up(start_server, tmp_path):
    first, second = start_server("echo", *REQUIRED), start_server("echo", *REQUIRED)
    with haproxy(tmp_path, [first, second], "send-proxy-v2 check") as proxy:
        port = second.port
        second.signal()
        assert second.wait() == 0
        proxy.wait_for_state(2, "DOWN")
        start_server("echo", *REQUIRED, bind=f"127.0.0.1:{port}")
        proxy.wait_for_state(2, "UP")


def test_it_takes_the_headers_of_our_clients(start_server, tmp_path):
    with haproxy(tmp_path, [start_server()], "", accepts="accept-proxy") as proxy:
        address = f"127.0.0.1:{proxy.port}"
        for flag in ("--send-proxy", "--send-proxy-v2"):
            anysock("ping", address, "-c", "1", flag)
        anysock("ping", address, "-c", "1", "--timeout", "5s", code=1)


class Load:
    """Clients that talk through the proxy, one connection after the other."""

    def __init__(self, proxy: Haproxy) -> None:
        self.answered = 0
        self.failures: list[Exception] = []
        self._proxy = proxy
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._talk) for _ in range(4)]

    def _talk(self) -> None:
        while not self._over.is_set():
            moved = time.monotonic()
            try:
                with self._proxy.connect() as client:
                    for _ in range(5):
                        client.sendall(b"hello")
                        assert receive_exactly(client, 5) == b"hello"
                        moved = time.monotonic()
                        self.answered += 1
            except Exception as error:  # noqa: BLE001
                # On a busy machine, somebody on the way may be held up for so long that a server
                # that ends takes the client for silent. Else, nobody is lost.
                if time.monotonic() - moved < 0.25:
                    self.failures.append(error)

    def goes_on(self) -> None:
        """Wait until so many more are answered that nobody can be left behind."""
        before = self.answered
        wait_until(lambda: self.answered > before + 200, "they go on")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_a_server_taken_out_and_put_back_under_load_loses_nobody(start_server, tmp_path):
    servers = [start_server("echo", *REQUIRED) for _ in range(2)]
    with haproxy(tmp_path, servers, "send-proxy-v2 check") as proxy, Load(proxy) as load:
        for _ in range(3):
            proxy.say("set server servers/s1 state drain")
            proxy.wait_for_state(1, "DRAIN")
            wait_until(lambda: proxy.state(1)["scur"] == "0", "nobody is on s1 any more")
            load.goes_on()
            proxy.say("set server servers/s1 state ready")
            proxy.wait_for_state(1, "UP")
            served = int(proxy.state(1)["stot"])
            wait_until(
                lambda: int(proxy.state(1)["stot"]) > served + 20,  # noqa: B023
                "s1 is used again",
            )
    assert not load.failures


def test_a_server_restarted_under_load_loses_nobody(start_server, tmp_path):
    """Whoever is connected at SIGTERM finishes, also who has only come as far as the backlog; who
    comes after is refused, and HAProxy tries the other server."""
    first, second = (start_server("echo", *REQUIRED) for _ in range(2))
    bind = f"127.0.0.1:{second.port}"
    with haproxy(tmp_path, [first, second], "send-proxy-v2 check") as proxy, Load(proxy) as load:
        for _ in range(2):
            load.goes_on()
            second.signal()
            assert second.wait() == 0
            proxy.wait_for_state(2, "DOWN")
            load.goes_on()
            second = start_server("echo", *REQUIRED, bind=bind)
            proxy.wait_for_state(2, "UP")
            second.wait_for(r" via \(.127\.0\.0\.1")
    assert not load.failures


def test_tls_goes_through_it_with_the_header_before(engine, start_server, tmp_path):
    (tmp_path / "mine.py").write_text(WHO)
    pki = Pki(tmp_path)
    server = start_server(
        *("mine:who", "--tls-cert", str(pki.server.both), *REQUIRED),
        engine=engine,
        bind="tls://127.0.0.1:0",
        cwd=tmp_path,
    )
    check = "" if engine == "blocking" else "check"
    context = ssl.create_default_context(cafile=pki.ca)
    with (
        haproxy(tmp_path, [server], f"send-proxy-v2 {check}") as proxy,
        proxy.connect() as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        ours = client.getsockname()
        client.sendall(b"who am I?")
        peer, via = json.loads(receive_all(client))
        assert tuple(peer) == ours
        assert via[0] == "127.0.0.1"


@pytest.mark.parametrize("delay", ["1500ms", "0"])
def test_who_asks_whether_it_is_ready_loses_nobody_when_it_ends(start_server, tmp_path, delay):
    """Without a second try of HAProxy's. Without a delay, those who come before it asks the next
    time are lost: it is the delay that helps."""
    checks = [free_port(), free_port()]
    servers = [
        start_server("echo", "--drain-delay", delay, "--admin", f"127.0.0.1:{port}")
        for port in checks
    ]
    for server in servers:
        server.base_threads += 1  # the endpoint's
    options = "\n    option httpchk GET /readyz\n    no option redispatch\n    retries 0"
    if delay == "0":
        options += "\n    default-server inter 1h"
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
