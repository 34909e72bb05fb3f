"""The servers that are compared: our engines, peers, and one in C."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anysock.bench.processes import program
from anysock.bench.work.kinds import ECHO, OTHER_LOOPS, Kind
from anysock.engines import DEFAULT, ENGINES
from anysock.errors import StartError

_HERE = Path(__file__).parent

#: The C reference's name; the base line where there is a compiler.
C_EPOLL = "c-epoll"

_NO_COMPILER = "there is no C compiler (cc, gcc, clang)"


@dataclass(frozen=True)
class Server:
    """A command that says where it listens, ``PORT`` or ``…:PORT (…``, in its first line."""

    name: str
    command: Sequence[str]
    #: What the size of its socket buffers is given after; None: it takes none.
    buffer_option: Sequence[str] | None = None
    #: Why it can't run here.
    why_not: str | None = None
    #: Whether it is one of ours.
    ours: bool = False
    #: Whether it serves one client at a time, so that more would wait for ever.
    one_client: bool = False


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _peer(name: str, program: str, *flags: str, needs: Sequence[str] = ()) -> Server:
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    return Server(
        name,
        _python(str(_HERE / "peers" / f"{program}.py"), *flags),
        why_not=f"the package {missing[0]} is not installed" if missing else None,
    )


def our_server(engine: str, handler: str = ECHO.handler) -> Server:
    """Our own, under the engine of that name."""
    entry = ENGINES[engine]
    quiet = ("--log-level", "warning", "-b", "127.0.0.1:0", "--backlog", "4096")
    return Server(
        f"anysock {engine}",
        _python("-m", "anysock", "serve", handler, "--engine", engine, *quiet),
        buffer_option=["--socket-buffer"],
        why_not=entry.why_not(),
        ours=True,
        one_client=not entry.concurrent,
    )


def all_servers(tools: Path | None, kind: Kind = ECHO) -> list[Server]:
    """Every server that does this kind of work, those that can't run here too; `tools` is what
    `c_tools` gave."""
    return _echo_servers(tools) if kind is ECHO else _servers_of(kind)


def _servers_of(kind: Kind) -> list[Server]:
    """Those of a kind of work for which a server must know where a message ends."""
    return [
        *(our_server(name, kind.handler) for name in ENGINES),
        *_batching(kind),
        _peer("uvloop streams", "asyncio_streams", "--uvloop", kind.name, needs=["uvloop"]),
        _peer("asyncio streams", "asyncio_streams", kind.name),
        _peer("trio streams", "trio_streams", kind.name, needs=["trio"]),
        *(_uvicorns() if kind.name == "http" else ()),
    ]


def _uvicorns() -> list[Server]:
    return [
        _peer("uvicorn h11 uvloop", "uvicorn_h11", "--uvloop", needs=["uvicorn", "uvloop"]),
        _peer("uvicorn h11 asyncio", "uvicorn_h11", needs=["uvicorn"]),
    ]


def _batching(kind: Kind) -> list[Server]:
    """Ours with a handler that answers in batches: under the default engine alone, since it shows
    what another text of the handler is worth."""
    if kind.in_batches is None:
        return []
    server = our_server(DEFAULT, kind.in_batches)
    return [dataclasses.replace(server, name=f"{server.name}, batches")]


def _echo_servers(tools: Path | None) -> list[Server]:
    return [
        Server(
            C_EPOLL,
            [str(tools / "echo") if tools else "echo", "0"],
            buffer_option=[],
            why_not=None if tools else _NO_COMPILER,
        ),
        Server(
            "c-uring",
            [str(tools / "echo_uring") if tools else "echo_uring", "0"],
            buffer_option=[],
            why_not=_why_no_uring(tools),
        ),
        *(our_server(name) for name in ENGINES),
        _peer("uvloop Protocol", "asyncio_protocol", "--loop", "uvloop", needs=["uvloop"]),
        _peer("uvloop streams", "asyncio_streams", "--uvloop", needs=["uvloop"]),
        _peer("asyncio Protocol", "asyncio_protocol"),
        _peer("asyncio streams", "asyncio_streams"),
        _peer("asyncio sock_*", "asyncio_sock"),
        _peer("trio streams", "trio_streams", needs=["trio"]),
        _peer("socketserver threads", "socketserver_threads"),
        *(_other_loop(name) for name in OTHER_LOOPS),
    ]


def _other_loop(name: str) -> Server:
    """Few have any of these installed: all that are not there have one reason, which a report tells
    in one line."""
    server = _peer(f"{name} Protocol", "asyncio_protocol", "--loop", name, needs=[name])
    if server.why_not is not None:
        server = dataclasses.replace(server, why_not="the package of the loop is not installed")
    return server


def _why_no_uring(tools: Path | None) -> str | None:
    """Why the reference on io_uring can't run here. Not to have io_uring is nothing unusual: the
    kernel is too old, or a container's seccomp filter, or the administrator, refuses it."""
    if tools is None:
        return _NO_COMPILER
    program = tools / "echo_uring"
    if not program.exists():
        return "it can't be compiled: <linux/io_uring.h> is missing, or older than Linux 6.1"
    done = subprocess.run([program, "probe"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else None


@contextlib.contextmanager
def c_tools() -> Iterator[Path | None]:
    """A folder with ``echo``, ``load`` and, where it can be, ``echo_uring``, compiled; None where
    there is no compiler."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="anysock-bench-") as folder:
        for program in ("echo", "load", "echo_uring"):
            source = _HERE / "reference" / f"{program}.c"
            command = [compiler, "-O2", "-o", f"{folder}/{program}", str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and program != "echo_uring":
                lines = done.stderr.strip().splitlines() or ["it says nothing"]
                raise StartError(f"{compiler} can't compile {source.name}: {lines[0]}")
        yield Path(folder)


@contextlib.contextmanager
def running(
    server: Server, core: int | None = None, buffer: int | None = None
) -> Iterator[tuple[int, int]]:
    """`server` as a process: its pid and its port.

    It runs on `core` alone, if told; with socket buffers of `buffer` bytes, if told.

    Raises `StartError` when it does not start.
    """
    command = list(server.command)
    if buffer is not None and server.buffer_option is not None:
        command += [*server.buffer_option, str(buffer)]
    with program(command) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        line = process.stdout.readline()
        digits = line.rpartition(":")[2].split(" ")[0].strip()
        if not digits.isdigit():
            raise StartError(f"{server.name} did not start: {line.strip() or process.wait()}")
        yield process.pid, int(digits)
