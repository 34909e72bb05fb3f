"""What experiments stand on: a server of each engine as a process, clients, the clock."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anysock.bench import processes
from anysock.engines import ENGINES, EngineEntry
from anysock.lab.claims import Finding, NotMeasured, Verdict

#: How long anything may take that should happen at once.
PATIENCE = 10.0

#: For how long a figure is taken.
SPAN = 1.0


def concurrent(engine: EngineEntry) -> bool:
    """Whether the engine serves several clients at once."""
    return engine.concurrent


def on_each_engine(
    which: Callable[[EngineEntry], bool] = lambda _: True,
) -> Callable[[Callable[[EngineEntry], Finding]], Callable[[], Iterator[Finding]]]:
    """Decorates what measures one engine: it becomes an experiment that measures all engines for
    which `which` is true. One that is not available here is a finding, too."""

    def decorate(measure: Callable[[EngineEntry], Finding]) -> Callable[[], Iterator[Finding]]:
        def experiment() -> Iterator[Finding]:
            for engine in filter(which, ENGINES.values()):
                if why_not := engine.why_not():
                    figure = f"not measured: {why_not}"
                    yield Finding(engine.name, figure, Verdict.NOT_MEASURED)
                else:
                    yield measure(engine)

        return experiment

    return decorate


@dataclass
class Running:
    """``anysock serve`` as a process."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE * 2)


@contextlib.contextmanager
def serving(
    engine: EngineEntry, handler: str = "echo", *options: str, folder: Path | None = None
) -> Iterator[Running]:
    """A server under `engine` on a port of its own; `folder` is where it finds a handler."""
    command = [sys.executable, "-m", "anysock", "serve", handler, "--engine", engine.name]
    command += ["--bind", "127.0.0.1:0", "--log-level", "error", *options]
    with program(command, folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = line.rpartition(":")[2].split(" ")[0].strip()
        if not port.isdigit():
            raise NotMeasured(f"the server did not start: {line.strip()}")
        # Nobody reads what it logs; but somebody must, or it would stand still at a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Running(process, int(port))


def program(
    command: list[str], folder: Path | None = None
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A process whose output, errors too, can be read; it is gone at the end of the block. It sees
    nothing of our settings."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANYSOCK_")}
    return processes.program(command, cwd=folder, env=env)


def receive(client: socket.socket, size: int) -> bytes:
    """`size` bytes; fewer when the stream ends before."""
    received = bytearray()
    while len(received) < size and (data := client.recv(min(size - len(received), 65536))):
        received += data
    return bytes(received)


def ask(client: socket.socket, message: bytes = b"hello\n") -> float:
    """How long an echo takes, in seconds. Raises TimeoutError."""
    begun = time.perf_counter()
    client.sendall(message)
    receive(client, len(message))
    return time.perf_counter() - begun


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection over the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    with near, far:
        yield near, far


def proc(pid: int, name: str) -> str:
    """A file of /proc/PID. Raises `NotMeasured` where there is none."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise NotMeasured(f"/proc/PID/{name} can't be read: {error.strerror}") from None


def status(pid: int, field: str) -> str:
    """A field of /proc/PID/status."""
    for line in proc(pid, "status").splitlines():
        if line.startswith(f"{field}:"):
            return line.partition(":")[2].strip()
    raise NotMeasured(f"/proc/PID/status has no {field}")
