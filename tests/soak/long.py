"""Good and bad clients for a long time: descriptors, threads, tasks and memory must stay flat.

    python -m tests.soak.long --minutes 20 --csv soak.csv --svg soak.svg

Good ones echo bulk and small talk, with TLS and without, and check every byte. Bad ones reset,
vanish, say nothing, do not read, half-close and wait, make the handler fail, speak no TLS where it
is spoken, and come in crowds. Once a second the server is looked at; in a pause of all of them,
each minute, it must be back where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import trustme

from tests.harness import exchange, receive_all, receive_exactly, reset, send_until_stuck
from tests.soak import handlers
from tests.soak.watching import Watched, end, raise_descriptor_limit, serving, tell

_SHOWN = ("descriptors", "threads", "tasks", "MiB")


class Clients:
    """Clients of all kinds, each from a thread of its own, until `over`."""

    def __init__(self, server: Watched, tls_port: int, seed: int) -> None:
        self.server = server
        self.tls_port = tls_port
        self.over = threading.Event()
        self.pause = threading.Event()
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._seed = seed
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self.good: list[Callable[[random.Random], None]] = [self.talk, self.bulk, self.tls_talk]
        self.bad: list[Callable[[random.Random], None]] = [
            self.resets,
            self.vanishes,
            self.says_nothing,
            self.does_not_read,
            self.half_closes_early,
            self.fails,
            self.no_tls,
            self.crowd,
        ]

    def run(self, kind: Callable[[random.Random], None], number: int) -> None:
        name = kind.__name__
        chance = random.Random(f"{self._seed} {name} {number}")
        while not self.over.is_set():
            if self.pause.is_set():
                self.over.wait(0.1)
                continue
            try:
                kind(chance)
                self.done[name] += 1
            except (OSError, AssertionError, ssl.SSLError) as error:
                # Of the bad ones, anything may come; of the good ones, nothing.
                if kind in self.good:
                    self.wrong[f"{name}: {error!r}"] += 1
                self.done[name] += 1

    def connect(self) -> socket.socket:
        return self.server.connect(timeout=30)

    # -- the good ones -------------------------------------------------------------------------

    def talk(self, chance: random.Random) -> None:
        with self.connect() as client:
            for _ in range(chance.randrange(1, 200)):
                data = chance.randbytes(chance.randrange(1, 2000))
                client.sendall(data)
                assert receive_exactly(client, len(data)) == data
                self.over.wait(0.002)

    def bulk(self, chance: random.Random) -> None:
        data = chance.randbytes(chance.randrange(1, 3_000_000))
        with self.connect() as client:
            assert exchange(client, data) == data
        self.over.wait(0.05)

    def tls_talk(self, chance: random.Random) -> None:
        with (
            socket.create_connection(("127.0.0.1", self.tls_port), timeout=30) as raw,
            self._context.wrap_socket(raw) as client,
        ):
            for _ in range(chance.randrange(1, 50)):
                data = chance.randbytes(chance.randrange(1, 20_000))
                client.sendall(data)
                assert receive_exactly(client, len(data)) == data
                self.over.wait(0.005)
            # Both ends say that they end.
            client.unwrap()

    # -- the bad ones --------------------------------------------------------------------------

    def resets(self, chance: random.Random) -> None:
        client = self.connect()
        client.sendall(chance.randbytes(chance.randrange(1, 100_000)))
        reset(client)
        self.over.wait(0.01)

    def vanishes(self, chance: random.Random) -> None:
        client = self.connect()
        if chance.random() < 0.5:
            client.sendall(b"x")
        client.close()
        self.over.wait(0.01)

    def says_nothing(self, chance: random.Random) -> None:
        with self.connect() as client:
            receive_all(client)  # until the server has had enough of it

    def does_not_read(self, chance: random.Random) -> None:
        with self.connect() as client:
            send_until_stuck(client, 20_000_000, quiet=0.2)
            if chance.random() < 0.5:
                reset(client)
            else:
                client.settimeout(30)
                while client.recv(200_000):
                    if chance.random() < 0.02:
                        break

    def half_closes_early(self, chance: random.Random) -> None:
        with self.connect() as client:
            client.shutdown(socket.SHUT_WR)
            receive_all(client)
        self.over.wait(0.01)

    def fails(self, chance: random.Random) -> None:
        with self.connect() as client:
            client.sendall(b"fail!")
            receive_all(client)
        self.over.wait(0.2)

    def no_tls(self, chance: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=30) as client:
            client.sendall(b"\x16\x03\x01" * chance.randrange(2) + chance.randbytes(200))
            receive_all(client)
        self.over.wait(0.02)

    def crowd(self, chance: random.Random) -> None:
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(self.connect()) for _ in range(chance.randrange(10, 100))]
            for client in crowd:
                client.sendall(b"here")
            for client in crowd:
                receive_exactly(client, 4)
        self.over.wait(0.5)


def look(server: Watched) -> dict[str, float]:
    """What the server costs now, its tasks among it."""
    found = server.look()
    with server.connect(timeout=30) as client:
        client.sendall(handlers.ASKED)
        found["tasks"] = int(receive_all(client))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--svg", type=Path)
    asked = parser.parse_args()
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "server.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
            str(certificate)
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            tls_port = probe.getsockname()[1]
        options = [
            *("--bind", f"tls://127.0.0.1:{tls_port}", "--tls-cert", str(certificate)),
            *("--idle-timeout", "3s", "--write-timeout", "3s", "--handshake-timeout", "2s"),
            *("--max-connections", "400", "--log-level", "error"),
        ]
        with serving("tests.soak.handlers:soaked", *options) as server:
            samples, calm, clients = soak(server, tls_port, asked.minutes * 60, asked.seed)
            failures = [f"{what} ({count} times)" for what, count in clients.wrong.items()]
            figures = server.figures()
    tell(clients=dict(clients.done))
    closed = {
        name.partition('"')[2].rstrip('"}'): int(value)
        for name, value in figures.items()
        if name.startswith("anysock_connections_closed_total") and value
    }
    tell(accepted=int(figures["anysock_connections_accepted_total"]), closed=closed)
    pauses = figures["anysock_reading_pauses_total"], figures["anysock_reading_resumes_total"]
    tell(pauses=int(pauses[0]), resumes=int(pauses[1]))
    for name in _SHOWN:
        tell(calm=name, first=calm[0][name], last=calm[-1][name])
    if pauses[0] != pauses[1]:
        failures.append("pauses and resumes differ")
    failures += [
        f"{name} are not flat: {[each[name] for each in calm]}"
        for name in ("descriptors", "threads", "tasks")
        if len({each[name] for each in calm[1:]}) > 1
    ]
    # The first minute warms it up: modules, buffers, malloc's arenas.
    middle = calm[len(calm) // 3 :]
    if middle[-1]["MiB"] > middle[0]["MiB"] * 1.05 + 1:
        failures.append(f"memory is not flat: {[each['MiB'] for each in calm]}")
    if asked.csv:
        rows = [",".join(["seconds", *_SHOWN])]
        rows += [",".join(str(each[name]) for name in ("seconds", *_SHOWN)) for each in samples]
        asked.csv.write_text("\n".join(rows) + "\n")
    if asked.svg:
        asked.svg.write_text(drawn(samples, calm))
    end(*failures)


def soak(
    server: Watched, tls_port: int, seconds: float, seed: int
) -> tuple[list[dict[str, float]], list[dict[str, float]], Clients]:
    """The samples of each second, those of each pause, and the clients."""
    clients = Clients(server, tls_port, seed)
    threads = [
        threading.Thread(target=clients.run, args=(kind, number))
        for kind in [*clients.good, *clients.bad]
        for number in range(2)
    ]
    samples, calm = [], []
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    between = min(60.0, seconds / 4)
    next_calm = between
    try:
        while (now := time.monotonic() - begun) < seconds:
            samples.append(look(server) | {"seconds": round(now, 1)})
            if now >= next_calm or now + 1 >= seconds:
                next_calm += between
                clients.pause.set()
                calm.append(look_at_rest(server) | {"seconds": round(now, 1)})
                tell(**calm[-1])
                clients.pause.clear()
            time.sleep(1)
    finally:
        clients.over.set()
        for thread in threads:
            thread.join()
    calm.append(look_at_rest(server) | {"seconds": round(time.monotonic() - begun, 1)})
    tell(**calm[-1])
    return samples, calm, clients


def look_at_rest(server: Watched) -> dict[str, float]:
    """The least that is seen for some seconds, in which the last clients leave."""
    end_at = time.monotonic() + 8
    seen = []
    while time.monotonic() < end_at:
        seen.append(look(server))
        time.sleep(0.05)
    return {name: min(each[name] for each in seen) for name in _SHOWN}


def drawn(samples: list[dict[str, float]], calm: list[dict[str, float]]) -> str:
    """The samples as a picture: a panel a figure, and a dot for each look at rest."""
    width, height, left, gap = 900, 150, 90, 50
    last = samples[-1]["seconds"]
    parts = []
    for panel, name in enumerate(_SHOWN):
        top = 30 + panel * (height + gap)
        most = max(each[name] for each in [*samples, *calm]) * 1.1

        def point(each: dict[str, float], name: str = name, top: int = top, most: float = most):
            x = left + each["seconds"] / last * (width - left - 20)
            return f"{x:.1f},{top + height - each[name] / most * height:.1f}"

        line = " ".join(point(each) for each in samples)
        parts += [
            f'<text x="10" y="{top - 10}">{name}</text>',
            f'<text x="10" y="{top + 10}">{most / 1.1:g}</text>',
            f'<text x="10" y="{top + height}">0</text>',
            f'<path d="M{left},{top}v{height}H{width - 20}" fill="none" stroke="#999"/>',
            f'<polyline points="{line}" fill="none" stroke="#37c" stroke-width="1"/>',
        ]
        for each in calm:
            x, y = point(each).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#c33"/>')
    total = 30 + len(_SHOWN) * (height + gap)
    parts.append(
        f'<text x="{left}" y="{total}">minutes: 0 to {last / 60:.0f}; dots: at rest</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total + 20}" '
        f'font-family="sans-serif" font-size="14">{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    main()
