"""Servers side by side: throughput, CPU a message, memory, against a C epoll echo.

    python benchmarks/compare.py [--rounds N] [--seconds S] [--server NAME ...] [--work NAME ...]
                                 [--json FILE]

Rounds are interleaved: in each, every server does a piece of work once, server and load pinned
to a core each; a server is started anew for each measurement. What is told is the median of a
server's throughput, and the median of its ratios to the reference of the same round: the machine
may change its speed between rounds, but less within one. The CPU time of a message is the
server's, from /proc/PID/schedstat (in nanoseconds), split by the ticks of /proc/PID/stat.

The load generator, in C, verifies every byte. It opens and closes a connection before it
measures: the first free(3) of a large block teaches glibc to keep memory (mallopt(3),
M_MMAP_THRESHOLD), and a server that asks for large receives doubles its speed with that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
REFERENCE = "c-epoll"

# How long a server may take to say where it listens.
START_SECONDS = 15.0


@dataclass(frozen=True)
class Server:
    """A server under test: a command that prints its port, or ``…:PORT (`` on standard error."""

    name: str
    command: Sequence[str]
    #: Whether the command takes the size of its socket buffers as a last argument.
    buffer_option: Sequence[str] | None = None
    needs: str | None = None
    #: One client at a time: work with more is not for it.
    one_client: bool = False


@dataclass(frozen=True)
class Work:
    name: str
    connections: int
    size: int
    #: Messages in flight on each connection; 0: connect, echo once, close.
    depth: int = 1
    #: SO_RCVBUF and SO_SNDBUF of the server, in bytes.
    socket_buffer: int | None = None


@dataclass
class Figures:
    """What one measurement brought. Times in seconds, memory in bytes."""

    rate: float
    cpu: float
    user: float
    system: float


WORKS = [
    Work("64Bx1", 1, 64),
    Work("64Bx50", 50, 64),
    Work("64Bx500", 500, 64),
    Work("4KiBx50", 50, 4096),
    Work("256KiBx10", 10, 262_144),
    Work("256KiBx10-1MiB-buffers", 10, 262_144, socket_buffer=1 << 20),
    Work("64Bx50-depth16", 50, 64, depth=16),
    Work("connect-echo-close", 1, 64, depth=0),
]


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def peer(name: str, program: str, *flags: str, needs: str | None = None) -> Server:
    return Server(name, python(str(HERE / "peers" / f"{program}.py"), *flags), needs=needs)


def engine(name: str, needs: str | None = None) -> Server:
    quiet = ("--log-level", "warning", "-b", "127.0.0.1:0", "--backlog", "4096")
    return Server(
        f"anysock {name}",
        python("-m", "anysock", "serve", "echo", "--engine", name, *quiet),
        buffer_option=["--socket-buffer"],
        needs=needs,
        one_client=name == "blocking",
    )


SERVERS = [
    Server(REFERENCE, ["echo", "0"], buffer_option=[]),
    engine("selector"),
    peer("uvloop Protocol", "asyncio_protocol", "--uvloop", needs="uvloop"),
    peer("uvloop streams", "asyncio_streams", "--uvloop", needs="uvloop"),
    peer("asyncio Protocol", "asyncio_protocol"),
    peer("asyncio streams", "asyncio_streams"),
    peer("asyncio sock_*", "asyncio_sock"),
    peer("trio streams", "trio_streams", needs="trio"),
    engine("uvloop", needs="uvloop"),
    engine("asyncio"),
    engine("trio", needs="trio"),
    engine("threads"),
    engine("polling"),
    engine("blocking"),
]


# -- one server, one load -------------------------------------------------------------------------


@contextlib.contextmanager
def running(server: Server, tools: Path, core: int, buffer: int | None) -> Iterator[Any]:
    """The server as a process, pinned to `core`; gives (pid, port)."""
    command = list(server.command)
    if command[0] == "echo":
        command[0] = str(tools / "echo")
    if buffer is not None and server.buffer_option is not None:
        command += [*server.buffer_option, str(buffer)]
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        digits = line.rpartition(":")[2].split(" ")[0].strip()
        if not digits.isdigit():
            raise RuntimeError(f"{server.name} did not start: {line or process.wait()}")
        yield process.pid, int(digits)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def cpu_seconds(pid: int) -> tuple[float, float, float]:
    """CPU time of all threads of a process: all to the nanosecond, user and system in ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # It may have ended since it was listed.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return total / 1e9, int(fields[11]) / TICK, int(fields[12]) / TICK


def measure(server: Server, work: Work, tools: Path, arguments: argparse.Namespace) -> Figures:
    with running(server, tools, 0, work.socket_buffer) as (pid, port):
        numbers = (work.connections, work.size, work.depth, arguments.warmup, arguments.seconds)
        load = subprocess.Popen(
            ["taskset", "-c", str(arguments.load_core), tools / "load", str(port)]
            + [str(number) for number in numbers],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert load.stdout is not None
        with load:
            begin = load.stdout.readline()
            before = cpu_seconds(pid)
            result = load.stdout.readline()
            after = cpu_seconds(pid)
        if begin != "begin\n" or load.returncode or not result:
            raise RuntimeError(f"the load on {server.name} failed with exit code {load.returncode}")
    messages, seconds = (float(number) for number in result.split())
    cpu, user, system = (end - start for start, end in zip(before, after, strict=True))
    ticks = user + system or 1.0
    return Figures(
        messages / seconds,
        cpu / messages,
        cpu * user / ticks / messages,
        cpu * system / ticks / messages,
    )


def idle_cost(server: Server, tools: Path, connections: int) -> tuple[float, float]:
    """Bytes of memory of an idle connection, and the share of a core that `connections` cost."""

    def memory(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    with running(server, tools, 0, None) as (pid, port), contextlib.ExitStack() as clients:

        def connect(count: int) -> None:
            for _ in range(count):
                client = socket.create_connection(("127.0.0.1", port))
                clients.enter_context(client)
                # Each says a word, so that what a first message allocates is counted.
                client.sendall(b"hello")
                got = b""
                while len(got) < 5:
                    got += client.recv(5)

        connect(50)  # what is made once is made now
        before = memory(pid)
        connect(connections)
        grown = memory(pid) - before
        ran, began = cpu_seconds(pid)[0], time.monotonic()
        time.sleep(1.0)  # the span that is measured
        share = (cpu_seconds(pid)[0] - ran) / (time.monotonic() - began)
        return grown / connections, share


# -- all of them ----------------------------------------------------------------------------------


def build(target: Path) -> bool:
    """Compile the C programs; False when there is no compiler."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        return False
    for program in ("echo", "load"):
        source = HERE / "reference" / f"{program}.c"
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Werror", "-o", target / program, source], check=True
        )
    return True


def available(server: Server) -> bool:
    if server.needs is None:
        return True
    probe = subprocess.run(python("-c", f"import {server.needs}"), capture_output=True, check=False)
    return probe.returncode == 0


def compare(
    servers: list[Server], works: list[Work], tools: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, list[Figures]]]:
    """Measure all works of all servers, round by round; by work and by server."""
    results: dict[str, dict[str, list[Figures]]] = {work.name: {} for work in works}
    for number in range(arguments.rounds):
        for work in works:
            for server in servers:
                if server.one_client and work.connections > 1:
                    continue
                if work.socket_buffer is not None and server.buffer_option is None:
                    continue
                tell(f"round {number + 1} of {arguments.rounds}: {work.name}: {server.name}")
                figures = measure(server, work, tools, arguments)
                results[work.name].setdefault(server.name, []).append(figures)
    tell("")
    return results


def tell(what: str) -> None:
    """What goes on, on a line of the terminal that is written over; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def summary(rounds: list[Figures], reference: list[Figures] | None) -> dict[str, Any]:
    """The medians of one server's rounds; its ratios to the reference's same rounds."""

    def median(name: str) -> float:
        return statistics.median(getattr(figures, name) for figures in rounds)

    told: dict[str, Any] = {
        "rate": median("rate"),
        "cpu_us": median("cpu") * 1e6,
        "user_us": median("user") * 1e6,
        "system_us": median("system") * 1e6,
        "rates": [figures.rate for figures in rounds],
    }
    if reference:
        pairs = list(zip(rounds, reference, strict=True))
        ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
        told["ratio"] = statistics.median(ratios)
        told["ratios"] = ratios
        told["cpu_ratio"] = statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs)
    return told


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    rates = f"{'messages/s':>12}{'ratio':>7}{'lowest':>8}{'highest':>8}"
    lines = [f"\n{title}\n{'':<20}{rates}{'CPU µs':>9}{'user':>7}{'system':>8}{'ratio':>7}"]
    for name, row in rows.items():
        ratio = row.get("ratio")
        spread = (
            f"{ratio:>7.2f}{min(row['ratios']):>8.2f}{max(row['ratios']):>8.2f}"
            if ratio is not None
            else " " * 23
        )
        cpu_ratio = f"{row['cpu_ratio']:>7.2f}" if ratio is not None else ""
        lines.append(
            f"{name:<20}{row['rate']:>12,.0f}{spread}{row['cpu_us']:>9.2f}{row['user_us']:>7.2f}"
            f"{row['system_us']:>8.2f}{cpu_ratio}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--server", action="append", help="only this one; may be repeated")
    parser.add_argument("--work", action="append", help="only this one; may be repeated")
    idle = "idle connections whose memory is measured; 0 leaves it out"
    parser.add_argument("--idle", type=int, default=4000, metavar="CONNECTIONS", help=idle)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    arguments.load_core = cores[min(1, len(cores) - 1)]

    unknown = {*(arguments.server or ())} - {server.name for server in SERVERS}
    unknown |= {*(arguments.work or ())} - {work.name for work in WORKS}
    if unknown:
        names = [server.name for server in SERVERS] + [work.name for work in WORKS]
        parser.error(f"no such server or work: {', '.join(unknown)}; there are {', '.join(names)}")
    works = [work for work in WORKS if not arguments.work or work.name in arguments.work]

    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder)
        if not build(tools):
            print("no C compiler (cc, gcc, clang): the load generator is in C", file=sys.stderr)
            return 1
        servers, missing = [], []
        for server in SERVERS:
            if arguments.server and server.name not in {*arguments.server, REFERENCE}:
                continue
            (servers if available(server) else missing).append(server)
        results = compare(servers, works, tools, arguments)
        told: dict[str, Any] = {
            "machine": {
                "python": platform.python_version(),
                "kernel": platform.release(),
                "machine": platform.machine(),
                "cores": len(cores),
            },
            "arguments": {
                "rounds": arguments.rounds,
                "seconds": arguments.seconds,
                "warmup": arguments.warmup,
            },
            "work": {},
            "idle": {},
        }
        for work in works:
            rounds = results[work.name]
            rows = {name: summary(all_, rounds.get(REFERENCE)) for name, all_ in rounds.items()}
            told["work"][work.name] = rows
            print(table(work.name, rows))
        if arguments.idle:
            print(f"\n{arguments.idle} idle connections\n{'':<20}{'bytes each':>12}{'CPU %':>9}")
            for server in servers:
                if server.one_client:
                    continue
                tell(f"idle: {server.name}")
                memory, share = idle_cost(server, tools, arguments.idle)
                told["idle"][server.name] = {"bytes": memory, "cpu_share": share}
                tell("")
                print(f"{server.name:<20}{memory:>12,.0f}{share * 100:>9.2f}", flush=True)
        for server in missing:
            print(f"\nnot measured: {server.name}: the module {server.needs} is not installed")
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
