"""The admin endpoint of a real server: it answers whatever the engine does, and hurts nobody."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import (
    PATIENCE,
    ServerProcess,
    awake_seconds,
    receive_all,
    receive_exactly,
    reset,
    wait_until,
)


class Admin:
    """A client of the admin endpoint of `server`."""

    def __init__(self, server: ServerProcess) -> None:
        self.port = int(server.wait_for(r"^admin endpoint on http://127\.0\.0\.1:(\d+)$")[1])
        # Its own; and where tasks are threads, that of the pulse.
        server.base_threads += 2 if server.engine in ("blocking", "threads") else 1

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def connections(self) -> list[dict[str, Any]]:
        status, text = self.ask("/connections")
        assert status == 200
        found: list[dict[str, Any]] = json.loads(text)["connections"]
        return found

    def figures(self) -> dict[str, float]:
        """Each sample of /metrics, by its name, and by what it is told apart by."""
        status, text = self.ask("/metrics")
        assert status == 200
        return {
            " ".join([sample.name.removeprefix("anysock_"), *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def start(start_server):
    """Start a server with an admin endpoint; return both."""

    def start_both(*arguments: str, **more: Any) -> tuple[ServerProcess, Admin]:
        server = start_server(*(arguments or ("echo",)), "--admin", ":0", **more)
        return server, Admin(server)

    return start_both


def test_it_tells_who_is_connected_and_what_has_been_done(engine, start):
    server, admin = start(engine=engine)
    assert admin.ask("/healthz") == (200, "alive\n")
    assert admin.ask("/readyz") == (200, "ready\n")
    assert admin.connections() == []
    with server.connect() as client:
        client.sendall(b"hello")
        receive_exactly(client, 5)
        seen: list[Any] = []

        def at_rest() -> bool:
            seen[:] = admin.connections()
            return bool(seen[0]["waits_for"] == "receive")

        # (Under `polling`, which is always trying, it may be seen at work at any moment.)
        wait_until(at_rest, "the handler is at rest")
        [shown] = seen
        assert 0 <= shown.pop("seconds") < PATIENCE
        assert re.fullmatch(r"\d+-\d+", shown.pop("id"))
        assert shown == {
            "peer": f"127.0.0.1:{client.getsockname()[1]}",
            "via": None,
            "tls": None,
            "local": f"127.0.0.1:{server.port}",
            "bytes_in": 5,
            "bytes_out": 5,
            "waits_for": "receive",
        }
        figures = admin.figures()
        assert figures["connections_open"] == 1
        assert figures["received_bytes_total"] == figures["sent_bytes_total"] == 5
        assert figures["loop_lag_seconds"] < PATIENCE
        assert figures["workers"] == 1
        assert figures["connections_limit"] > 10
    wait_until(lambda: not admin.connections(), "it is gone")


def test_each_connection_is_counted_once_at_its_start_and_once_at_its_end(engine, start):
    server, admin = start(*("lines", "--fail-on", "boom", "--log-level", "debug"), engine=engine)
    server.expected_errors += ["the handler failed", "Traceback"]
    for _ in range(10):
        assert server.ask(b"hello\n") == b"hello\n"
    for _ in range(2):
        assert server.ask(b"boom\n") == b""
    server.connect().close()
    client = server.connect()
    client.sendall(b"hello\n")
    receive_exactly(client, 6)
    reset(client)
    wait_until(lambda: admin.figures()["connections_open"] == 0, "all are gone")
    figures = admin.figures()
    assert figures["connections_accepted_total"] == 14
    closed = {
        name.split()[1]: count
        for name, count in figures.items()
        if name.startswith("connections_closed_total") and count
    }
    assert closed == {"done": 10, "failed": 2, "no_data": 1, "lost": 1}
    assert figures["handler_failures_total"] == 2
    assert figures["received_bytes_total"] == 11 * 6 + 2 * 5
    assert figures["sent_bytes_total"] == 11 * 6
    assert figures["connection_duration_seconds_count"] == 14
    assert figures["connection_duration_seconds_bucket +Inf"] == 14
    assert 0 < figures["connection_duration_seconds_sum"] < 14 * PATIENCE
    assert figures["reading_pauses_total"] == figures["reading_resumes_total"]
    # And in the log: one line each.
    server.wait_for(r" bytes in, \d+ bytes out", times=14)
    assert len(server.matching(r" bytes in, \d+ bytes out")) == 14


BLOCKS = """
import time
async def handler(connection):
    async for chunk in connection:
        time.sleep(float(chunk))
        await connection.send_all(chunk)
"""


def test_it_answers_while_a_handler_blocks_the_engine(engine, start, tmp_path):
    (tmp_path / "mine.py").write_text(BLOCKS)
    server, admin = start("mine:handler", engine=engine, cwd=tmp_path)
    with server.connect() as client:
        client.sendall(b"1.2")
        wait_until(lambda: any(each["bytes_in"] for each in admin.connections()), "it blocks")
        began = time.monotonic()
        assert admin.connections()[0]["waits_for"] == "handler"
        assert admin.ask("/readyz") == (200, "ready\n")
        if engine not in ("blocking", "threads"):  # where nothing else is held up
            wait_until(lambda: admin.figures()["loop_lag_seconds"] > 0.3, "it is overdue")
        # A second is no reason for a restart.
        assert admin.ask("/healthz") == (200, "alive\n")
        assert time.monotonic() - began < 1.1
        assert receive_exactly(client, 3) == b"1.2"
    if engine not in ("blocking", "threads"):
        wait_until(lambda: admin.figures()["loop_lag_seconds"] < 0.3, "it goes on")
        assert admin.figures()["loop_lag_highest_seconds"] > 0.3


def test_it_is_not_ready_while_it_drains_and_before(engine, start):
    server, admin = start("echo", "--drain-delay", "400ms", engine=engine)
    with server.connect() as client:
        client.sendall(b"hello")
        receive_exactly(client, 5)
        server.signal()
        wait_until(lambda: admin.ask("/readyz") == (503, "draining\n"), "it is not ready")
        if engine != "blocking":
            # The load balancer has not noticed yet.
            assert server.ask(b"late") == b"late"
        assert admin.ask("/healthz")[0] == 200
        assert receive_all(client) == b""
    assert server.wait() == 0


def test_accepting_is_paused_and_resumed(engine, start):
    server, admin = start(engine=engine)
    assert admin.ask("/pause", "POST") == (200, "accepting is paused\n")
    assert admin.ask("/readyz") == (503, "accepting is paused\n")
    server.wait_for("^accepting is paused$")
    with server.connect() as client:
        client.sendall(b"hello")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(PATIENCE)
        assert admin.ask("/resume", "POST") == (200, "ready\n")
        assert receive_exactly(client, 5) == b"hello"
    server.wait_for("^accepting is resumed$")


def test_a_limit_that_is_met_is_counted(start):
    server, admin = start("echo", "--max-connections", "2")
    server.expected_errors.append("2 connections: further clients wait")
    with server.connect() as one, server.connect() as two, server.connect() as three:
        for client in (one, two):
            client.sendall(b"hello")
            receive_exactly(client, 5)
        three.sendall(b"third")
        one.close()
        assert receive_exactly(three, 5) == b"third"
        figures = admin.figures()
        assert figures["limits_met_total max_connections"] == 1
        assert figures["connections_limit"] == 2
        assert figures["connections_open"] == 2


# -- its own clients ----------------------------------------------------------------------------


def test_silent_and_slow_clients_of_it_keep_no_place_and_cost_the_server_nothing(start):
    server, admin = start()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(admin.connect()) for _ in range(5)]
        slow = silent[0]
        slow.sendall(b"GET / HTTP/1.1\r\n")
        client = stack.enter_context(server.connect())
        for _ in range(100):
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"
        wait_until(lambda: server.threads() == server.base_threads, "it has no thread for them")
        assert admin.ask("/healthz") == (200, "alive\n")
        assert b" 408 " in receive_all(slow)
        for each in silent[1:]:
            receive_all(each)


def test_a_probe_is_answered_at_once_beside_200_silent_clients(start):
    """Who probes gives up after a second, and would have the server restarted."""
    server, admin = start()
    with contextlib.ExitStack() as stack:
        times = []
        for _ in range(4):
            for number in range(50):
                silent = stack.enter_context(admin.connect())
                if number % 3:  # half a request is none; and who is answered may stay
                    silent.sendall([b"", b"GET / HTTP/1.1\r\nHost:", b"?\r\n\r\n"][number % 3])
            begun = time.monotonic()
            assert admin.ask("/healthz") == (200, "alive\n")
            times.append(time.monotonic() - begun)
        # Not the 2 s that the silent ones have.
        assert statistics.median(times) < 1
        assert server.fds() <= server.base_fds + 12


def test_a_probe_is_answered_at_once_beside_clients_that_do_not_read(start):
    server, admin = start("echo", "--idle-timeout", "0")
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(server.connect())
        wait_until(lambda: len(admin.connections()) == 400, "all are there")

        def probe() -> float:
            """For how many seconds both sides slept until it was answered. (That the machine is
            busy, and keeps them waiting for a core, says nothing.)"""
            with contextlib.ExitStack() as there:
                for _ in range(30):
                    deaf = there.enter_context(socket.socket())
                    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    deaf.connect(("127.0.0.1", admin.port))
                    deaf.sendall(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
                both = (server.pid, os.getpid())
                begun, awake = time.monotonic(), sum(map(awake_seconds, both))
                assert admin.ask("/healthz") == (200, "alive\n")
                return time.monotonic() - begun - (sum(map(awake_seconds, both)) - awake)

        # Not the 2 s that the deaf ones have.
        assert any(probe() < 1 for _ in range(3))


def test_a_target_as_a_proxy_is_sent_it_is_served(start):
    """RFC 9112, section 3.2.2."""
    _, admin = start()
    assert admin.ask(f"http://127.0.0.1:{admin.port}/healthz") == (200, "alive\n")
    assert admin.ask("http://localhost/readyz", Host="elsewhere.example") == (200, "ready\n")
    # A name that was made to point here is refused, whatever Host says.
    assert admin.ask("http://elsewhere.example/readyz", Host="localhost")[0] == 403


def test_what_is_no_http_is_answered_and_told_to_nobody(start):
    _, admin = start()
    chance = random.Random(862)
    for round in range(60):
        data = chance.randbytes(chance.randrange(1, 2000))
        if round % 2:
            data = b"GET /" + data
        with admin.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(data + b"\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = receive_all(client)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    with admin.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert receive_all(client).startswith(b"HTTP/1.1 431 ")
    assert admin.ask("/readyz") == (200, "ready\n")


def test_a_head_and_an_answer_to_another_site_are_refused_or_empty(start):
    _, admin = start()
    assert admin.ask("/metrics", "HEAD") == (200, "")
    assert admin.ask("/pause", "POST", Origin="http://evil.example")[0] == 403
    assert admin.ask("/connections", Host="evil.example")[0] == 403
    assert admin.ask("/readyz", Host="localhost") == (200, "ready\n")


def test_out_of_descriptors_it_waits_without_spinning_and_answers_later(start):
    server, admin = start("echo", "--max-connections", "100")
    server.expected_errors.append("can't accept a connection")
    server.limit_fds(server.fds() + 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        server.wait_for("can't accept a connection")
        # One of them may get the descriptor that the server keeps back to tell of the shortage.
        silent = [stack.enter_context(admin.connect()) for _ in range(3)]
        before = server.cpu_seconds()
        time.sleep(0.5)  # what is measured is what it does meanwhile
        assert server.cpu_seconds() - before < 0.25
        for client in [*clients, *silent]:
            client.close()
        assert admin.ask("/readyz") == (200, "ready\n")


def test_a_client_that_stays_does_not_delay_the_end(engine, start):
    server, admin = start(engine=engine)
    with admin.connect() as silent:
        assert admin.ask("/healthz")[0] == 200
        began = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - began < 2
        with contextlib.suppress(ConnectionError):
            receive_all(silent)


# -- how it begins ------------------------------------------------------------------------------


def serve(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys\n{before}\nfrom anysock.cli import main\nmain()"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("package", ["h11", "prometheus_client"])
def test_a_package_that_is_missing_is_one_line(package):
    done = serve("-b", ":0", "--admin", ":0", before=f"sys.modules[{package!r}] = None")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == f"anysock: this needs the package {package}: pip install anysock"


def test_an_address_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("-b", ":0", "--admin", f"{port}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "another program listens there" in line


def test_an_endpoint_that_others_can_reach_is_warned_of(start_server):
    server = start_server("echo", "--admin", "0.0.0.0:0")
    server.base_threads += 1
    server.expected_errors.append("whoever can reach 0.0.0.0:")
    server.wait_for("^warning: whoever can reach 0.0.0.0:.*firewall")
    port = int(server.wait_for(r"^admin endpoint on http://0\.0\.0\.0:(\d+)$")[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        assert connection.getresponse().read() == b"ready\n"
