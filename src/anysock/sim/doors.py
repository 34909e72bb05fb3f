"""The doors to the real machine from which a history is kept: what the interpreter reports, and
which functions are replaced."""

from __future__ import annotations

import _thread
import os
import random
import socket
import sys
import threading
import time
from types import ModuleType

#: These are no part of a history, whoever opens them.
FOR_NOBODY = frozenset({"sockets", "threads", "processes"})

#: What the interpreter reports, and what it touches.
EVENTS = {
    **dict.fromkeys(
        (
            "socket.__new__", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname",
            "socket.getnameinfo",
        ),
        "sockets",
    ),
    **dict.fromkeys(
        (
            "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
            "os.system", "subprocess.Popen",
        ),
        "processes",
    ),
    **dict.fromkeys(
        (
            "open", "os.chdir", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir",
            "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.symlink", "os.truncate",
            "os.utime", "sqlite3.connect",
        ),
        "files",
    ),
    **dict.fromkeys(("os.kill", "os.killpg", "signal.pthread_kill"), "signals"),
}  # fmt: skip

#: Functions that are replaced: of which module, what they touch, and with how many arguments they
#: touch nothing.
_MANY = sys.maxsize
FUNCTIONS: list[tuple[ModuleType, str, str, int]] = [
    *(
        (time, name, "clock", _MANY)
        for name in (
            "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter",
            "perf_counter_ns", "process_time", "process_time_ns", "thread_time", "thread_time_ns",
            "time", "time_ns",
        )
    ),
    *((time, name, "clock", 1) for name in ("ctime", "gmtime", "localtime")),
    (time, "strftime", "clock", 2),
    (time, "sleep", "sleep", _MANY),
    *(
        (random, name, "random", _MANY)
        for name in random.__all__
        if getattr(getattr(random, name), "__self__", None) is not None
        and name not in ("seed", "getstate", "setstate")
    ),
    (random, "_urandom", "random", _MANY),
    (os, "urandom", "random", _MANY),
    (os, "getrandom", "random", _MANY),
    (socket, "socketpair", "sockets", _MANY),  # the hook comes when there is one half of it
    (_thread, "start_new_thread", "threads", _MANY),
    (threading, "_start_new_thread", "threads", _MANY),
    (threading, "_start_joinable_thread", "threads", _MANY),
]  # fmt: skip
