"""The programs of the ladder, as processes."""

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
from pathlib import Path

from tests.harness import PATIENCE, free_port, wait_until
from tests.io_uring import needs_io_uring

LADDER = Path(__file__).parents[2] / "examples" / "ladder"


class Rung:
    """A program of the ladder, as a process. `arguments` come after host and port."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(LADDER / f"{name}.py"), "127.0.0.1", str(self.port),
             *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self._text = {"out": b"", "error": b""}
        self._readers = []
        for which, stream in (("out", self.process.stdout), ("error", self.process.stderr)):
            reader = threading.Thread(target=self._read, args=(which, stream))
            reader.start()
            self._readers.append(reader)

    def _read(self, which, stream) -> None:
        with stream:
            while data := stream.read1(65536):
                self._text[which] += data

    @property
    def out(self) -> str:
        return self._text["out"].decode()

    @property
    def error(self) -> str:
        return self._text["error"].decode()

    def connect(self) -> socket.socket:
        """A client; the first one waits until the program listens."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            except ConnectionRefusedError:
                assert time.monotonic() < end, f"it does not listen: {self.error}"
                assert self.process.poll() is None, f"it has ended: {self.error}"
                time.sleep(0.01)  # between two attempts

    def has_read(self, length: int) -> Callable[[], bool]:
        """Whether it has told of so many bytes, two at a time."""
        return lambda: self.out.count("I got data") >= (length + 1) // 2

    def ended(self) -> int:
        """Wait for its end: the exit code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join()
        return code

    def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing in the block: what happens meanwhile, it finds all at once."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), "it is stopped")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def sleeps(self) -> bool:
        """Whether it waits in a system call."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(") ")[2].startswith("S")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sockets(self) -> int:
        """How many sockets it has open."""
        count = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(link).startswith("socket:")
        return count


@contextlib.contextmanager
def rung(name: str, *arguments: object) -> Iterator[Rung]:
    """A program of the ladder, within the block."""
    if name.rpartition("/")[2].startswith("s15_"):
        needs_io_uring()
    started = Rung(name, *arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.ended()
