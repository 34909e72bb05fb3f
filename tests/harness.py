"""The real server as a process, and real sockets to drive it with.

Nothing here sleeps for a fixed time: `wait_until` and `ServerProcess.wait_for` wait for a
condition, with a bound.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from anysock import engines
from anysock.engines.base import Binding
from tests import prepared

ENGINES = tuple(engines.ENGINES)
CONCURRENT_ENGINES = tuple(name for name, entry in engines.ENGINES.items() if entry.concurrent)

#: Engines that have a network of their own: what needs no process, no thread and no socket of the
#: machine runs under them, too.
SIMULATED = tuple(engines.UNLISTED)


def cases_by_engine(
    cases: Mapping[str, Any], on_every_engine: str, *, all_on: Sequence[str] = ("selector",)
) -> Any:
    """Parameters ``("engine", "case")``, where the engine plays no part in a case: each of `cases`
    under the engines in `all_on`; one of them, by its name, under every engine."""
    return [
        pytest.param(engine, case, id=f"{engine}-{name}")
        for engine in ENGINES
        for name, case in cases.items()
        if engine in all_on or name == on_every_engine
    ]


#: How many threads a server has that serves nobody: the main one; one that waits for signals
#: where the main one sleeps, and one to do what the first means; one that accepts; one that looks
#: after the limits of time, and one after that of memory; the watchdog of our own loop. (The one
#: that writes the log ends when there is nothing to write.)
BASE_THREADS = {
    "blocking": 5,
    "threads": 6,
    "polling": 2,
    "selector": 2,
    "uring": 2,
    "asyncio": 1,
    "asyncio-sock": 1,
    "uvloop": 1 + 4,  # once it has looked up an address, libuv keeps four
    "trio": 1,
}

#: A free port of 127.0.0.1, for `Engine.listen`.
LOOPBACK = Binding("127.0.0.1:0", ((socket.AF_INET, ("127.0.0.1", 0)),))

#: How long anything may take that should happen at once, on a machine that is busy.
PATIENCE = 15.0

# Everything that CPython can find fault with, and each fault an error.
STRICT = ("-X", "dev", "-bb", "-W", "error")

_RESET = struct.pack("ii", 1, 0)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Look at `condition` until it is true, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)  # between two looks at a condition
    return value


def listens(port: int) -> bool:
    """Whether somebody listens there (proc(5), /proc/net/tcp); to ask by connecting would take a
    client's place."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines
    )


class ServerProcess:
    """``anysock serve`` in a process of its own, on a free port of 127.0.0.1; or a program, given
    by its path, that takes ``--bind`` and ``--engine`` as it does."""

    def __init__(
        self,
        handler: str | Path = "echo",
        *options: str,
        engine: str = "selector",
        bind: str | Sequence[str] = "127.0.0.1:0",
        python_flags: Sequence[str] = STRICT,
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
        expected_code: int = 0,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        fresh: bool = False,
    ) -> None:
        """With `fresh`, it is an interpreter of its own from the beginning, as for a user; else it
        is forked, where it can be, by one that is prepared (`tests/prepared`)."""
        #: Patterns of ERROR and WARNING lines that the test has asked for.
        self.expected_errors: list[str] = []
        self.expected_code = expected_code
        binds = [bind] if isinstance(bind, str) else bind
        arguments = [word for each in binds for word in ("--bind", each)]
        arguments += ["--engine", engine, *options]
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("ANYSOCK")
            or key in ("ANYSOCK_PURE", "ANYSOCK_POLLER", "ANYSOCK_LOG_TIME")
        }
        # Under -X dev, asyncio debugs itself, and costs ten times as much. With this variable it
        # would do so without, whatever the value: "0" as well.
        clean.pop("PYTHONASYNCIODEBUG", None)
        what = [str(handler)] if isinstance(handler, Path) else ["-m", "anysock", "serve", handler]
        start = subprocess.Popen if fresh else prepared.Popen
        self.process = start(
            [*wrapper, sys.executable, *python_flags, *what, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean | (environment or {}),
            cwd=cwd,
            pass_fds=pass_fds,
        )
        self.pid = self.process.pid
        self.engine = engine
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(r"listening on \S+ \([\w-]+\)", times=len(binds))
        except BaseException:
            self.kill()
            raise
        #: Where it listens, as it says it.
        self.addresses = [each[1] for each in self.matching(r"listening on (\S+) \(")]
        tcp = re.fullmatch(r"(?:tcp|tls)://(.+):(\d+)", self.addresses[0])
        self.host, self.port = (tcp[1].strip("[]"), int(tcp[2])) if tcp else ("", 0)
        self.base_fds = self._settled_fds()
        self.base_threads = BASE_THREADS[engine]

    # -- its log -------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self.lines.append("<end of log>")
            self._more.notify_all()

    def wait_for(self, pattern: str, times: int = 1, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until `times` lines of the log match `pattern`; return the last of them."""

        def found() -> bool:
            return len(self.matching(pattern)) >= times or self.lines[-1:] == ["<end of log>"]

        with self._more:
            self._more.wait_for(found, seconds)
            matches = self.matching(pattern)
        assert len(matches) >= times, f"no line {pattern!r} in the log:\n{self.log}"
        return matches[times - 1]

    def matching(self, pattern: str) -> list[re.Match[str]]:
        return [match for line in list(self.lines) if (match := re.search(pattern, line))]

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    # -- its clients ---------------------------------------------------------------------------

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """A connection to its first address."""
        return connect_to(self.addresses[0], timeout)

    def connect_from(self, host: str) -> socket.socket:
        """A connection from an address of its own: all of 127.0.0.0/8 are this machine."""
        where = (self.host, self.port)
        return socket.create_connection(where, PATIENCE, source_address=(host, 0))

    def refuses(self) -> bool:
        """Whether a connect is refused."""
        try:
            self.connect(timeout=1).close()
        except ConnectionRefusedError:
            return True
        return False

    def ask(self, data: bytes) -> bytes:
        """Send `data` on a connection of its own, half-close, and return all that comes back."""
        with self.connect() as client:
            return exchange(client, data)

    # -- what it costs -------------------------------------------------------------------------

    def fds(self) -> int:
        """How many descriptors the server has open."""
        folder = Path(f"/proc/{self.pid}/fd")
        if self.engine != "uvloop":
            return len(list(folder.iterdir()))
        # libuv opens one /dev/null when it closes its first connection, and keeps it.
        count = 0
        for link in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                count += os.readlink(link) != "/dev/null"
        return count

    def _settled_fds(self) -> int:
        """The descriptors of a server at rest: a file of some import may be open for a moment."""
        counts: list[int] = []

        def settled() -> bool:
            counts.append(self.fds())
            return len(counts) >= 5 and len(set(counts[-5:])) == 1

        wait_until(settled, "the number of descriptors has settled")
        return counts[-1]

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def memory(self) -> int:
        """Resident memory, in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def cpu_seconds(self) -> float:
        """CPU time of all living threads, to the nanosecond (not in ticks of 10 ms)."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread has ended since it was listed
        return total / 1e9

    def limit_fds(self, limit: int) -> None:
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, hard))

    # -- its end -------------------------------------------------------------------------------

    def signal(self, signum: int = signal.SIGTERM) -> None:
        self.process.send_signal(signum)

    def wait(self, seconds: float = PATIENCE) -> int:
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def wait_until_idle(self) -> None:
        """All clients have left: no descriptor and no thread may be left of them."""
        wait_until(
            lambda: self.fds() <= self.base_fds and self.threads() <= self.base_threads,
            f"descriptors back at {self.base_fds} and threads at {self.base_threads}",
        )

    def check(self) -> None:
        """The same look at the end of every test: nothing left, nothing unexpected in the log."""
        try:
            if self.process.poll() is None:
                self.wait_until_idle()
                self.signal()
            code = self.wait()
        finally:
            self.kill()
        assert code == self.expected_code, f"exit code {code}\n{self.log}"
        # On a busy machine, any step may be held up.
        expected_errors = [*self.expected_errors, "holds up the loop"]
        unexpected = [
            line
            for line in self.lines
            if re.search(
                # A program of its own begins its lines with the time.
                r"^([\d-]+T\S+ )?(error|warning|critical)|Traceback|Warning|Exception ignored",
                line,
            )
            and not any(re.search(pattern, line) for pattern in expected_errors)
        ]
        assert not unexpected, f"not asked for: {unexpected}\n{self.log}"


def connect_to(address: str, timeout: float = PATIENCE) -> socket.socket:
    """A connection to what a server says that it listens on."""
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect("\0" + rest[1:] if rest.startswith("@") else rest)
        return client
    host, _, port = rest.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def need(command: str) -> str:
    """The path of a real client. Where it is missing, continuous integration must fail."""
    path = shutil.which(command)
    if path is None:
        message = f"{command} is not installed here: .ci/run names the Debian package that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def sleeps(pid: int) -> bool:
    """Whether the main thread of a process is asleep, now and for some time: proc(5), stat."""
    for _ in range(5):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state != "S":
            return False
        time.sleep(0.01)
    return True


def awake_seconds(pid: int) -> float:
    """For how long the threads of a process have run, or would have if a core had been free: the
    first two fields of /proc/PID/schedstat. In the rest of its time it has slept."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            ran, waited, _ = (task / "schedstat").read_text().split()
            total += int(ran) + int(waited)
    return total / 1e9


# Where the system takes no port for what asks for any (ip(7), ip_local_port_range): one that it has
# chosen once, and that is closed again, it may give to a server of another test at any moment. Each
# process of pytest-xdist has a range of its own, and begins somewhere in it: two runs of the tests
# at the same time, on one machine, would else choose the same ports one after the other.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_lowest = 10_000 + 1_000 * (_worker % 20)
_ports = itertools.islice(
    itertools.cycle(range(_lowest, _lowest + 1_000)), os.getpid() % 1_000, None
)


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    for port in itertools.islice(_ports, 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("all ports are taken")


def receive_all(client: socket.socket) -> bytes:
    """All that comes until the end of the stream."""
    received = bytearray()
    while chunk := client.recv(65536):
        received += chunk
    return bytes(received)


def receive_exactly(client: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = client.recv(min(65536, size - len(received)))
        assert chunk, f"the stream ended after {len(received)} of {size} bytes"
        received += chunk
    return bytes(received)


def crowd_of(
    server: ServerProcess, number: int, stack: contextlib.ExitStack
) -> list[socket.socket]:
    """So many clients of an echo server, each of which has moved a byte more than the one
    before. They are closed with `stack`."""
    clients = [stack.enter_context(server.connect()) for _ in range(number)]
    for size, client in enumerate(clients, start=1):
        client.sendall(b"x" * size)
        receive_exactly(client, size)
    return clients


def exchange(client: socket.socket, data: bytes) -> bytes:
    """Send `data` and half-close, while receiving until the end of the stream."""

    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = receive_all(client)
    sender.join()
    return received


def reset(client: socket.socket) -> None:
    """Close with a reset instead of an end of stream."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


def send_until_stuck(client: socket.socket, most: int, quiet: float = 0.5) -> int:
    """Send up to `most` bytes without receiving; return how many were taken.

    Stuck is who could not send a byte for `quiet` seconds.
    """
    block = b"x" * 65536
    sent = 0
    client.settimeout(quiet)
    try:
        while sent < most:
            sent += client.send(block[: most - sent])
    except TimeoutError:
        pass
    client.settimeout(PATIENCE)
    return sent


def assert_a_drain_loses_nothing(server: ServerProcess) -> None:
    """7 MB are on their way, there and back, when the server is told to end: all come back."""
    data = bytes(range(256)) * 27_344
    with server.connect() as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        received = receive_exactly(client, 100_000)
        server.signal()
        server.wait_for("draining")
        received += receive_all(client)
        sender.join()
    assert received == data
    assert server.wait() == 0
