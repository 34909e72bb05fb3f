"""Processes that we start; and what those of this machine cost, from /proc (proc(5)): on other
systems it is unknown."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anysock.engines.base import SockAddr

_PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


@contextlib.contextmanager
def program(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose output, errors too, can be read; it is gone at the end of the block.

    `options` are those of `subprocess.Popen`. A Ctrl-C is for us: the process does not get it.
    """
    with _interrupts_held_back() as let_come:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        try:
            let_come()
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[Callable[[], None]]:
    """Delay a Ctrl-C until the yielded function is called: it would leave over a process that has
    been started and is not known yet."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are the main thread's
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))

    def let_come() -> None:
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(held.pop())

    try:
        yield let_come
    finally:
        signal.signal(signal.SIGINT, handler)


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds: all of it, and how it divides into user and system time."""

    total: float
    user: float
    system: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        """What was used since `earlier`. The whole is exact to the nanosecond; its parts come from
        ticks of 10 ms, so they are scaled to add up to it."""
        total, user, system = (
            max(mine - other, 0.0)
            for mine, other in (
                (self.total, earlier.total),
                (self.user, earlier.user),
                (self.system, earlier.system),
            )
        )
        ticks = user + system or 1.0
        return Cpu(total, total * user / ticks, total * system / ticks)


def cpu_of(pids: Iterable[int]) -> Cpu | None:
    """The CPU time of these processes, all their threads together; None where it can't be known."""
    total = user = system = 0.0
    for pid in pids:
        try:
            for task in (_PROC / str(pid) / "task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended
                    total += int((task / "schedstat").read_text().split()[0]) / 1e9
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            return None
        user += int(fields[11]) / _TICKS_A_SECOND
        system += int(fields[12]) / _TICKS_A_SECOND
    return Cpu(total, user, system)


def memory_of(pid: int) -> int | None:
    """The resident memory of a process, in bytes; None where it can't be known."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def listeners_at(address: SockAddr) -> list[int]:
    """The processes of this machine that listen for TCP at `address`, as far as we may see them.

    Empty when the address belongs to another machine, or they belong to another user.
    """
    if isinstance(address, str):
        return []  # a Unix socket: /proc/net/unix does not name its process
    host, port = address[0], address[1]
    if not _is_ours(host):
        return []
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    pids = []
    for process in _PROC.iterdir() if sockets else ():
        if process.name.isdigit():
            # Gone by now, or another user's.
            with contextlib.suppress(OSError):
                if any(os.readlink(fd) in sockets for fd in (process / "fd").iterdir()):
                    pids.append(int(process.name))
    return pids


def max_descriptors() -> int:
    """How many descriptors a process may have, after `raise_descriptor_limit`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def raise_descriptor_limit() -> None:
    """Let this process, and those that it starts, open as many descriptors as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _is_ours(host: str) -> bool:
    """Whether `host` is the loopback. A machine's other addresses are taken for another's."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes
