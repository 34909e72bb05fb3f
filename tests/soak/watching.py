"""What the programs here share: a server, looked at from outside."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any, Self

from tests.harness import ServerProcess, free_port


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have; the server inherits that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def serving(
    handler: str, *options: str, engine: str = "selector", **more: Any
) -> Iterator[Watched]:
    """A server as users run it, with an admin endpoint; ended when the block is over."""
    port = free_port()
    options = ("--admin", f"127.0.0.1:{port}", "--production", *options)
    server = Watched(handler, *options, engine=engine, python_flags=(), **more)
    server.admin_port = port
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.signal()
            server.wait(60)
        server.kill()


class Watched(ServerProcess):
    """A server whose figures are asked for."""

    admin_port = 0

    def figures(self) -> dict[str, float]:
        """What its /metrics say."""
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
        }

    def look(self) -> dict[str, float]:
        """What it costs now."""
        return {
            "descriptors": self.fds(),
            "threads": self.threads(),
            "MiB": round(self.memory() / 2**20, 1),
        }


class Bystander:
    """A client that asks and waits, as fast as it is answered, and knows how long it took."""

    def __init__(self, server: ServerProcess, clock: Any) -> None:
        self._server = server
        self._clock = clock
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._server.connect(timeout=30) as client:
                while not self._over.wait(0.001):
                    begun = self._clock()
                    client.sendall(b"hello")
                    received = b""
                    while len(received) < 5:
                        chunk = client.recv(5)
                        assert chunk, "the bystander was cut off"
                        received += chunk
                    self.seconds.append(self._clock() - begun)
        except Exception as error:  # noqa: BLE001
            self.failure = error

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]

    def told(self) -> str:
        milliseconds = [self.percentile(percent) * 1e3 for percent in (50, 99, 100)]
        told = "p50 {:.2f} ms, p99 {:.2f} ms, worst {:.1f} ms".format(*milliseconds)
        return f"bystander: {len(self.seconds):,} round trips, {told}"


def tell(**what: Any) -> None:
    print("  ".join(f"{name}={value}" for name, value in what.items()), flush=True)


def end(*failures: str) -> None:
    """Exit with 1 when something is not as it should be."""
    for failure in failures:
        print("NOT AS IT SHOULD BE:", failure)
    print(json.dumps({"ok": not failures}))
    sys.exit(bool(failures))
