"""Faults on purpose, as a real client sees them.

Each by itself, and to the moment: `simulated/test_faults_on_purpose.py`.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

import pytest

from anysock.net.certificates import client_context
from tests import prepared
from tests.harness import (
    ENGINES,
    PATIENCE,
    ServerProcess,
    exchange,
    receive_all,
    receive_exactly,
    send_until_stuck,
)
from tests.pki import Pki
from tests.tls_client import TlsClient

ANSWER = bytes(range(256)) * 8

# Of struct tcp_info (linux/tcp.h): tcpi_data_segs_in, how many segments with data have come.
_TCP_INFO, _DATA_SEGMENTS_IN = 11, 152


def segments_with_data(client: socket.socket) -> int:
    info = client.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _DATA_SEGMENTS_IN + 4)
    return int(struct.unpack_from("I", info, _DATA_SEGMENTS_IN)[0])


def is_silent(client: socket.socket, seconds: float = 0.5) -> bool:
    client.settimeout(seconds)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)
    return False


# -- delay -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_an_answer_comes_no_sooner_than_the_delay_and_others_are_under_way(engine, start_server):
    """One after the other, 40 of them would take 12 s."""
    server = start_server("echo", "--delay", "300ms", engine=engine)
    sent: list[float] = []
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send() -> None:
            for number in range(40):
                sent.append(time.monotonic())
                client.sendall(b"%03d" % number)
                time.sleep(0.005)

        began = time.monotonic()
        sender = threading.Thread(target=send)
        sender.start()
        for number in range(40):
            assert receive_exactly(client, 3) == b"%03d" % number
            assert time.monotonic() - sent[number] >= 0.3
        sender.join()
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("engine", ["threads", "selector", "uvloop"])
def test_who_does_not_read_does_not_fill_the_line(engine, start_server):
    server = start_server("echo", "--delay", "1ms", engine=engine)
    server.ask(ANSWER)
    before = server.memory()
    with server.connect() as client:
        sent = send_until_stuck(client, 40_000_000)
        assert sent < 40_000_000
        assert server.memory() - before < 4_000_000
        client.shutdown(socket.SHUT_WR)
        assert len(receive_all(client)) == sent


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_what_is_in_the_line_is_still_sent_when_the_server_drains(engine, start_server):
    server = start_server("echo", "--delay", "700ms", "-v", engine=engine)
    with server.connect() as client:
        client.sendall(b"late")
        server.wait_for("I got data")
        server.signal()
        server.wait_for("draining: 1 connections")
        assert receive_all(client) == b"late"
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_a_delay_beyond_the_drain_is_cut_off(engine, start_server):
    server = start_server(
        *("echo", "--delay", "60s", "--drain-timeout", "500ms", "-v"),
        engine=engine,
        expected_code=1,
    )
    server.expected_errors += ["aborted the connection", "1 connections were aborted"]
    with server.connect() as client:
        client.sendall(b"too late")
        server.wait_for("I got data")
        server.signal()
        with pytest.raises(ConnectionResetError):
            receive_all(client)
    assert server.wait() == 1


# -- throttle and slice ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["threads", "selector", "uvloop"])
def test_each_slice_is_a_segment_of_its_own(engine, start_server):
    server = start_server("echo", "--slice", "10", engine=engine)
    with server.connect() as client:
        client.sendall(ANSWER[:200])
        assert receive_exactly(client, 200) == ANSWER[:200]
        assert segments_with_data(client) >= 20


# -- ends ------------------------------------------------------------------------------------------


# Behind a delay, another task sends than the handler's own.
DELAYED = ("--delay", "50ms", "--slice", "300")
plain_and_delayed = pytest.mark.parametrize(
    ("engine", "delay"),
    [("selector", ()), *((engine, DELAYED) for engine in ENGINES)],
    ids=["selector", *(f"{engine}-delayed" for engine in ENGINES)],
)


def until_its_end(client: socket.socket | TlsClient) -> tuple[bytes, bool]:
    """What comes, and whether it ended with a reset."""
    received = bytearray()
    try:
        while chunk := client.receive() if isinstance(client, TlsClient) else client.recv(65536):
            received += chunk
    except ConnectionResetError:
        return bytes(received), True
    return bytes(received), False


@plain_and_delayed
def test_a_reset_after_so_many_bytes(start_server, engine, delay):
    server = start_server(
        "echo", "--reset-after", "1000", "--log-level", "debug", *delay, engine=engine
    )
    with server.connect() as client:
        client.sendall(ANSWER)
        assert until_its_end(client) == (ANSWER[:1000], True)
    server.wait_for(r"has ended: lost \(reset on purpose\)")


def test_a_reset_loses_nothing_of_what_came_before_it(start_server):
    server = start_server("chargen", "--reset-after", "3MB")
    with server.connect() as client:
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            while chunk := client.recv(30_000):
                received += chunk
                if len(received) < 200_000:
                    time.sleep(0.005)  # a slow reader: most of it still waits in the server
        assert len(received) == 3_000_000


@pytest.mark.parametrize("delay", [(), DELAYED], ids=["", "delayed"])
@pytest.mark.parametrize("engine", ["blocking", "selector"])
def test_a_close_in_the_middle_of_an_answer(start_server, engine, delay):
    server = start_server(
        "echo", "--close-after", "1000", "--log-level", "debug", *delay, engine=engine
    )
    with server.connect() as client:
        client.sendall(ANSWER)
        assert until_its_end(client) == (ANSWER[:1000], False)
    server.wait_for(r"has ended: lost \(closed on purpose\)")


# -- corruption, and what ping says of it ----------------------------------------------------------


def ping(server: ServerProcess, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "anysock", "ping", f":{server.port}", "-i", "0", *arguments]
    done = prepared.run(
        [*command, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_ping_names_corrupt_answers(start_server):
    found = ping(start_server("echo", "--corrupt", "1"), "-c", "20")
    assert found["bad"] == {"corrupt": 20}
    assert found["received"] == 0


# -- half-open -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["blocking", "threads", "selector", "uvloop", "trio"])
def test_a_dead_connection_is_silent_even_after_a_fin_and_ends_with_the_drain(engine, start_server):
    server = start_server("echo", "--half-open", "1", engine=engine)
    with server.connect() as client:
        client.sendall(b"is anybody there?")
        client.shutdown(socket.SHUT_WR)
        assert is_silent(client)
        server.signal()
        assert until_its_end(client) == (b"", True)
    assert server.wait() == 0


def test_a_dead_connection_costs_no_cpu(start_server):
    server = start_server("echo", "--half-open", "1")
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.sendall(ANSWER)
        client.shutdown(socket.SHUT_WR)
    server.wait_for("I got a connection", times=5)
    before = server.cpu_seconds()
    time.sleep(1)
    assert server.cpu_seconds() - before < 0.1
    server.signal()
    for client in clients:
        client.close()
    assert server.wait() == 0


# -- together --------------------------------------------------------------------------------------


def test_faults_compose(engine, start_server):
    server = start_server(
        "lines",
        *("--delay", "100ms", "--jitter", "20ms", "--slice", "7", "--throttle", "50kB/s"),
        *("--corrupt", "1", "--close-after", "600", "--seed", "1", "-v"),
        engine=engine,
    )
    line = ANSWER[14:114] + b"\n"
    with server.connect() as client:
        began = time.monotonic()
        client.sendall(line * 10)
        received = receive_all(client)
        assert time.monotonic() - began >= 0.08
    assert len(received) == 600
    lines = [received[start : start + 101] for start in range(0, 505, 101)]
    for got in lines:
        assert sum(a != b for a, b in zip(got, line, strict=True)) == 1


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_faults_leave_the_others_alone_and_nothing_behind(engine, start_server):
    server = start_server(
        *("echo", "--delay", "10ms", "--jitter", "10ms", "--half-open", "0.2", "--seed", "2"),
        *("--reset-after", "2000", "--idle-timeout", "600ms", "--min-rate", "0"),
        engine=engine,
    )
    ends = []

    def talk() -> None:
        with server.connect() as client:
            try:
                ends.append(len(exchange(client, ANSWER[:1500])))
            except OSError:
                ends.append(-1)

    clients = [threading.Thread(target=talk) for _ in range(40)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert set(ends) == {-1, 1500}
    assert 1 <= ends.count(-1) <= 20
    server.wait_until_idle()


@pytest.mark.parametrize(
    ("engine", "option", "reset"),
    [
        ("threads", "--close-after", False),
        ("selector", "--reset-after", True),
        ("selector", "--close-after", False),
        ("uvloop", "--reset-after", True),
    ],
)
def test_faults_are_of_what_tls_carries(start_server, engine, tmp_path, option, reset):
    pki = Pki(tmp_path)
    server = start_server(
        *("echo", "--delay", "50ms", "--slice", "900", option, "20000"),
        *("--tls-cert", str(pki.server.cert), "--tls-key", str(pki.server.key)),
        engine=engine,
        bind="tls://127.0.0.1:0",
    )
    # Python's own SSLSocket tells a reset as if it were the end of the stream.
    with TlsClient(server.connect(), client_context(pki.ca)) as client:
        client.send(ANSWER * 20)
        assert until_its_end(client) == ((ANSWER * 20)[:20000], reset)
