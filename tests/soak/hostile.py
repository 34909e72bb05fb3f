"""A client beside a hostile one: how long it waits for its answers.

    python -m tests.soak.hostile --engine selector --kind records --tls

Each kind of hostility is a process of its own that makes the server work as hard as it can for each
byte sent. The bystander asks for five bytes and waits for them, again and again: in each round
first alone, and then beside the hostile client. What is told is the median of the rounds, in ms;
the figures alone say how quiet the machine was. What the server has worked while the bystander
waited says the same on a machine that is not quiet: more than 20 ms of that, at the 99th
percentile, is a fault.
(That each does only so much in a turn is tested without a clock, in
``tests/contract/in_process/test_turns.py``.)
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import ctypes.util
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from anysock.net.proxy_protocol import encode_v1, encode_v2
from tests.harness import CONCURRENT_ENGINES, ServerProcess, free_port, wait_until
from tests.pki import Pki
from tests.soak.watching import end

HANDLER = "tests.soak.hostile_handlers:chosen"
HEADER = encode_v1(("192.0.2.1", 1), ("192.0.2.2", 2))


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def address_of(text: str) -> tuple[str, int]:
    host, _, port = text.partition("://")[2].rpartition(":")
    return host, int(port)


# -- the hostile clients: each a function of an address, for ever ----------------------------------


def _connected(address: str) -> socket.socket:
    sock = socket.create_connection(address_of(address))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trusting().wrap_socket(sock) if address.startswith("tls") else sock


def _read_all(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 18):
            pass


def _flooding(mode: bytes, block: bytes, records: int = 1) -> Callable[[str], None]:
    """Send `block` without a pause, and read what comes back. Over TLS, `records` such are made
    before they are sent."""

    def attack(address: str) -> None:
        sock = socket.create_connection(address_of(address))
        if not address.startswith("tls"):
            threading.Thread(target=_read_all, args=(sock,), daemon=True).start()
            sock.sendall(mode)
            while True:
                sock.sendall(block)
        # What comes back need not be decrypted.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        threading.Thread(target=_read_all, args=(sock,), daemon=True).start()
        tls.write(mode)
        write = tls.write
        while True:
            for _ in range(records):
                write(block)
            sock.sendall(outgoing.read())

    return attack


def key_updates(address: str) -> None:
    """Changes of keys, and nothing else (RFC 8446, 4.6.3), a thousand at a time."""
    name = ctypes.util.find_library("ssl")
    assert name is not None
    lib = ctypes.CDLL(name)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_s_mem", "BIO_new"):
        getattr(lib, function).restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
    tls = ctypes.c_void_p(lib.SSL_new(context))
    sock = socket.create_connection(address_of(address))
    lib.SSL_set_fd(tls, sock.fileno())
    assert lib.SSL_connect(tls) == 1
    assert lib.SSL_write(tls, b"e", 1) == 1
    outgoing = ctypes.c_void_p(lib.BIO_new(ctypes.c_void_p(lib.BIO_s_mem())))
    lib.SSL_set0_wbio(tls, outgoing)
    buffer = ctypes.create_string_buffer(1 << 20)
    while True:
        for _ in range(1000):
            assert lib.SSL_key_update(tls, 0) == 1
            assert lib.SSL_do_handshake(tls) == 1
        sock.sendall(buffer.raw[: lib.BIO_read(outgoing, buffer, len(buffer))])


def _handshakes(cut: bool) -> Callable[[str], None]:
    """Handshakes, a hundred at a time: each costs the server a signature. With `cut`, each byte
    comes in a record of its own, and each record in a segment of its own."""

    def attack(address: str) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        pieces = [hello]
        if cut:
            pieces = [hello[:3] + b"\0\1" + hello[at : at + 1] for at in range(5, len(hello))]
        while True:
            _send_to_many(address, 100, pieces, answered=True)

    return attack


def _send_to_many(address: str, count: int, pieces: list[bytes], *, answered: bool) -> None:
    socks = [socket.create_connection(address_of(address)) for _ in range(count)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.send(piece)
    for sock in socks:
        with contextlib.suppress(OSError):
            if answered:
                sock.recv(100)
        sock.close()


def trickle(address: str) -> None:
    """One byte at a time."""
    sock = _connected(address)
    sock.sendall(b"d")
    send = sock.send
    while True:
        send(b"x")


def opens(address: str) -> None:
    """Connections that come and go."""
    while True:
        _send_to_many(address, 50, [], answered=False)


def _headers(header: bytes, piece: int) -> Callable[[str], None]:
    pieces = [header[start : start + piece] for start in range(0, len(header), piece)]

    def attack(address: str) -> None:
        while True:
            _send_to_many(address, 20, pieces, answered=False)

    return attack


def datagrams(address: str) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address_of(address))
    sock.setblocking(False)
    while True:
        with contextlib.suppress(OSError):
            sock.send(b"x")


def asking(address: str) -> None:
    """The admin endpoint, asked as fast as it answers, by four at once."""

    def ask() -> None:
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(address_of(address)) as sock,
            ):
                while True:
                    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if not sock.recv(1 << 18):
                        break

    for _ in range(3):
        threading.Thread(target=ask, daemon=True).start()
    ask()


def _with_checksum(size: int) -> bytes:
    tlvs = [(0xE0, bytes(size))]
    return encode_v2(("192.0.2.1", 1), ("192.0.2.2", 2), tlvs, checksum=True)


KINDS: dict[str, Callable[[str], None]] = {
    "flood": _flooding(b"e", b"x" * (1 << 20)),
    "reader": _flooding(b"c", b"x"),
    "lines": _flooding(b"l", b"\n" * (1 << 20)),
    "exactly": _flooding(b"x", b"\n" * (1 << 20)),
    "bytes": _flooding(b"b", b"\n" * (1 << 20)),
    "trickle": trickle,
    "opens": opens,
    "records": _flooding(b"e", b"\n", 4000),
    "records-lines": _flooding(b"l", b"\n", 4000),
    "records-discard": _flooding(b"d", b"\n", 4000),
    "key-updates": key_updates,
    "handshakes": _handshakes(cut=False),
    "hello-pieces": _handshakes(cut=True),
    "proxy-v1": _headers(HEADER, 1),
    "proxy-v2": _headers(encode_v2(("192.0.2.1", 1), ("192.0.2.2", 2)), 1),
    "proxy-large": _headers(_with_checksum(60_000), 70_000),
    "proxy-4k": _headers(_with_checksum(4000), 4096),
    "datagrams": datagrams,
    "sliced": _flooding(b"e", b"x" * 100_000),
    "answered": _flooding(b"\n", b"\n" * (1 << 20)),
    "admin": asking,
}
TLS_ONLY = {
    *("records", "records-lines", "records-discard", "key-updates", "handshakes", "hello-pieces")
}
PLAIN_ONLY = {"proxy-v1", "proxy-v2", "proxy-large", "proxy-4k", "datagrams"}

# The most that a bystander's 99th percentile may be, in ms.
MOST = 20.0


# -- the one that is not ---------------------------------------------------------------------------


class Trip(NamedTuple):
    """How long one took, and how long the server has worked meanwhile, for whomever; in seconds."""

    waited: float
    worked: float


def round_trips(sock: socket.socket, server: ServerProcess, seconds: float) -> list[Trip]:
    """As many as there is time for."""
    clock = ~server.process.pid << 3 | 2  # clock_getcpuclockid(3) of another process
    found = []
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        used = time.clock_gettime(clock)
        sock.sendall(b"hell\n")
        received = 0
        while received < 5:
            size = len(sock.recv(5 - received))
            assert size, "the bystander was cut off"
            received += size
        found.append(Trip(time.monotonic() - begun, time.clock_gettime(clock) - used))
        time.sleep(0.0005)
    return found


def told(rounds: list[list[Trip]]) -> dict[str, float]:
    """Of each figure the median of the rounds, in ms; and the worst of all."""

    def percentile(values: list[float], percent: int) -> float:
        return sorted(values)[len(values) * percent // 100]

    def ms(which: int, percent: int) -> float:
        figures = [percentile([trip[which] for trip in trips], percent) for trips in rounds]
        return round(statistics.median(figures) * 1e3, 2)

    return {
        "p50": ms(0, 50),
        "p99": ms(0, 99),
        "worst": round(max(trip.waited for trips in rounds for trip in trips) * 1e3, 1),
        "worked_p50": ms(1, 50),
        "worked_p99": ms(1, 99),
        "trips": sum(map(len, rounds)),
    }


@contextlib.contextmanager
def hostile(kind: str, address: str) -> Iterator[None]:
    """Within the block, a process is hostile to the server at `address`."""
    program = [sys.executable, "-m", "tests.soak.hostile", "--attack", kind, "--at", address]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def server_for(kind: str, engine: str, tls: tuple[str, ...], *options: str) -> ServerProcess:
    handler, binds = HANDLER, ["tls://127.0.0.1:0" if tls else "127.0.0.1:0"]
    options = (*options, *tls, "--log-level", "warning", "--no-access-log", "--accept-rate", "1e6")
    if kind.startswith("proxy"):
        options = (*options, "--proxy-protocol", "required", "--proxy-from", "127.0.0.0/8")
    elif kind == "datagrams":
        handler = "echo"
        binds.append("udp://127.0.0.1:0")
    elif kind == "sliced":
        options = (*options, "--slice", "1")
    elif kind == "answered":
        handler = "lines"
    elif kind == "admin":
        options = (*options, "--admin", f"127.0.0.1:{free_port()}")
    return ServerProcess(handler, *options, engine=engine, bind=binds, python_flags=())


def until_under_way(server: ServerProcess) -> None:
    """Until the hostile client gives it something to do."""
    begun = server.cpu_seconds()
    wait_until(lambda: server.cpu_seconds() - begun > 0.1, "the hostile client has begun")
    time.sleep(0.3)


def until_at_rest(server: ServerProcess) -> None:
    """Until it is done with what the hostile client has left; ten seconds at most."""
    for _ in range(50):
        begun = server.cpu_seconds()
        time.sleep(0.2)
        if server.cpu_seconds() - begun < 0.02:
            break


def measure(
    kind: str, engine: str, tls: tuple[str, ...], seconds: float, rounds: int
) -> dict[str, Any]:
    server = server_for(kind, engine, tls)
    alone, beside, cpu = [], [], 0.0
    try:
        address, target = server.addresses[0], server.addresses[-1]
        if kind == "admin":
            target = server.wait_for(r"admin endpoint on http(://\S+)")[1]
        hello = HEADER + b"e" if kind.startswith("proxy") else b"e"
        if kind == "answered":
            hello = b""
        # There before the hostile one: how long the system lets somebody wait whose connection
        # finds the backlog full is no matter of ours.
        sock = _connected(address)
        sock.settimeout(60)
        sock.sendall(hello)
        for _ in range(rounds):
            alone.append(round_trips(sock, server, seconds / 2))
            with hostile(kind, target):
                until_under_way(server)
                begun = server.cpu_seconds()
                beside.append(round_trips(sock, server, seconds))
                cpu += server.cpu_seconds() - begun
            if engine != "polling":
                until_at_rest(server)
        sock.close()
        slow = len(server.matching("holds up the loop"))
    finally:
        server.kill()
    return {
        "kind": kind,
        "engine": engine,
        "tls": bool(tls),
        "alone": told(alone),
        "beside": told(beside),
        "server_cpu": round(cpu / seconds / rounds, 2),
        "slow_steps": slow,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--engine", action="append", choices=CONCURRENT_ENGINES)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tls", action=argparse.BooleanOptionalAction)
    parser.add_argument("--attack")
    parser.add_argument("--at")
    asked = parser.parse_args()
    if asked.attack:
        KINDS[asked.attack](asked.at)
        return
    late = []
    with tempfile.TemporaryDirectory() as folder:
        server = Pki(Path(folder)).server
        certificate = ("--tls-cert", str(server.cert), "--tls-key", str(server.key))
        for kind in asked.kind or KINDS:
            for tls in ((), certificate):
                if (asked.tls is not None and asked.tls != bool(tls)) or kind in (
                    PLAIN_ONLY if tls else TLS_ONLY
                ):
                    continue
                for engine in asked.engine or CONCURRENT_ENGINES:
                    found = measure(kind, engine, tls, asked.seconds, asked.rounds)
                    print(json.dumps(found), flush=True)
                    if found["beside"]["worked_p99"] > MOST:
                        late.append(f"{kind} under {engine}{' with TLS' if tls else ''}")
    end(*([f"more than {MOST:g} ms: {', '.join(late)}"] if late else []))


if __name__ == "__main__":
    main()
