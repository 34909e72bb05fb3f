"""Programs of ours as processes, without waiting each time until Python has imported them.

Most of what a server costs that serves for a moment are its imports: 0.15 s of a core, some 2,500
times; and a command's are no cheaper. So an interpreter does them once (`interpreter.py`), becomes
one for each engine and each command, and these fork into a process at each request. That is a child
of this one, as if it had been started here; what it inherits and what it is told are the same.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import inspect
import json
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anysock.cli import COMMANDS
from anysock.engines import DEFAULT, ENGINES

_PROGRAM = Path(__file__).with_name("interpreter.py")

# prctl(2): who takes over processes whose parent has ended.
_PR_SET_CHILD_SUBREAPER = 36

#: Whether processes can be started so.
AVAILABLE = sys.platform == "linux"

# What an interpreter looks at when it starts, and our own modules when they are imported.
_EARLY = ("PYTHON", "ANYSOCK_PURE", "ANYSOCK_POLLER", "LD_", "MALLOC_")

# What every program of ours imports that serves.
_COMMON = ("anysock.workers.serving", "encodings.idna")

# What a process that is forked can not have otherwise, by the names of `Popen._execute_child`.
_USUAL = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "shell": False,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}


@dataclass(frozen=True)
class Program:
    """What a prepared interpreter can go on with: ``python FLAGS -m anysock COMMAND …``, or
    ``python FLAGS PATH.py …``."""

    #: Options of the interpreter.
    flags: tuple[str, ...]
    #: ``-m``, or a path.
    what: str
    arguments: tuple[str, ...]

    @classmethod
    def read(cls, words: Sequence[str]) -> Program | None:
        """What a command line asks for; None when it is nothing of that kind."""
        if words[:1] != [sys.executable]:
            return None
        end = 1
        while end < len(words) and words[end] in ("-X", "-W", "-bb", "-u"):
            end += 2 if words[end] in ("-X", "-W") else 1
        flags, rest = tuple(words[1:end]), words[end:]
        if rest[:2] == ["-m", "anysock"] and len(rest) > 2 and rest[2] in COMMANDS:
            return cls(flags, "-m", tuple(rest[2:]))
        if rest and rest[0].endswith(".py"):
            return cls(flags, rest[0], tuple(rest[1:]))
        return None

    def modules(self) -> tuple[str, ...]:
        """Those that it imports, whatever else it is told."""
        following = dict(zip(self.arguments, self.arguments[1:], strict=False))
        engine = ENGINES.get(following.get("--engine", DEFAULT), ENGINES[DEFAULT])
        first = f"anysock.cli.{self.arguments[0]}" if self.what == "-m" else "anysock"
        return (first, engine.path.partition(":")[0])


_one_asks = threading.Lock()


class Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`, but a `Program` that needs nothing of its own to begin with is
    forked."""

    #: Whether it was.
    forked = False

    def _execute_child(self, *given: Any) -> None:
        execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        told = inspect.signature(execute).bind(self, *given).arguments
        words = [] if isinstance(told["args"], str) else list(map(os.fsdecode, told["args"]))
        program = Program.read(words)
        environment = dict(os.environ if told["env"] is None else told["env"])
        early = {name: each for name, each in environment.items() if name.startswith(_EARLY)}
        if (
            program is None
            or not AVAILABLE
            or any(told[name] != each for name, each in _USUAL.items())
            # For one process, an interpreter is not worth its while.
            or not early.items() <= os.environ.items()
        ):
            execute(self, *given)
            return
        ends = {0: told["p2cread"], 1: told["c2pwrite"], 2: told["errwrite"]}
        descriptors = {number: number if end == -1 else end for number, end in ends.items()}
        descriptors |= {number: number for number in told["pass_fds"]}
        request = {
            "what": program.what,
            "arguments": program.arguments,
            "environment": environment,
            "folder": os.fsdecode(told["cwd"] or Path.cwd()),
            "new session": told["start_new_session"],
            "most descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
            "descriptors": list(descriptors),
        }
        control = _prepared(program.modules(), program.flags, json.dumps(early, sort_keys=True))
        with _one_asks, _taking_over():
            socket.send_fds(control, [json.dumps(request).encode()], list(descriptors.values()))
            answer = control.recv(100)
        assert answer, "the interpreter has ended; its standard error says why"
        self.pid = int(answer)
        self.forked = self._child_created = True
        self._close_pipe_fds(*(  # type: ignore[attr-defined]
            told[name]
            for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        ))  # fmt: skip

    def _wait(self, timeout: float | None) -> int:
        # Python's own looks again and again, up to 50 ms apart.
        if timeout is not None and AVAILABLE and self.returncode is None:
            with contextlib.suppress(ProcessLookupError), _descriptor_of(self.pid) as ends:
                select.select([ends], [], [], timeout)
                timeout = 0
        code: int = super()._wait(timeout)  # type: ignore[misc]
        return code


def _run_with_our_popen() -> Callable[..., subprocess.CompletedProcess[Any]]:
    theirs = subprocess.run
    ours = types.FunctionType(theirs.__code__, {**vars(subprocess), "Popen": Popen}, "run")
    ours.__kwdefaults__ = theirs.__kwdefaults__
    return ours


#: As `subprocess.run`, with our `Popen`.
run = _run_with_our_popen()


@contextlib.contextmanager
def _descriptor_of(pid: int) -> Iterator[int]:
    """A descriptor that can be read when the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _taking_over() -> Iterator[None]:
    """Within the block, a process whose parent ends becomes a child of this one."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@functools.cache
def _prepared(modules: tuple[str, ...], flags: tuple[str, ...], early: str) -> socket.socket:
    """The socket of an interpreter that has imported `modules`, and takes requests."""
    first = _first(flags, early)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(first, [json.dumps({"modules": modules}).encode()], [theirs.fileno()])
    atexit.register(ours.close)
    return ours


@functools.cache
def _first(flags: tuple[str, ...], early: str) -> socket.socket:
    """The socket of an interpreter that becomes the others of its kind."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *flags, str(_PROGRAM), str(theirs.fileno()), *_COMMON],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**_without_ours(os.environ), **json.loads(early)},
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTHON", "ANYSOCK"))
    }
