"""An interpreter that has imported what a program needs, and forks into one at each request.

``python interpreter.py FD MODULES…`` takes requests from the socket FD, and answers each with the
number of a new process. That goes on as ``python -m anysock ARGUMENTS``, or ``python PROGRAM.py
ARGUMENTS``, would; only the imports are done. Or it becomes one more interpreter, which imports
more, and takes requests from a socket of its own. The package asks.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import io
import json
import os
import resource
import runpy
import signal
import socket
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

# The most descriptors that may come with one message (unix(7)).
_MOST = 253


def forked(control: socket.socket) -> dict[str, Any]:
    """Fork at each request. Returns it in the new process; here, it ends when nobody asks any
    more."""
    while True:
        message, received, _, _ = socket.recv_fds(control, 1 << 18, _MOST)
        if not message:
            os._exit(0)
        request: dict[str, Any] = json.loads(message)
        if "modules" in request:
            [its_own] = received
            if os.fork() == 0:
                control.close()
                control = socket.socket(fileno=its_own)
                prepare(request["modules"])
            else:
                os.close(its_own)
            continue
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            parent = os.getpid()
            if (pid := os.fork()) == 0:
                while os.getppid() == parent:  # until it is a child of whoever asks
                    os.sched_yield()
                os.close(reading)
                os.close(writing)
                control.close()
                become(request, dict(zip(request["descriptors"], received, strict=True)))
                return request
            os.write(writing, str(pid).encode())
            # With this, the new process is a child of whoever asks.
            os._exit(0)
        for each in received:
            os.close(each)
        os.close(writing)
        os.waitpid(between, 0)
        control.send(os.read(reading, 100))
        os.close(reading)


def prepare(modules: Iterable[str]) -> None:
    for each in modules:
        importlib.import_module(each)
    # What is here now lives as long as each process: it need not be looked through, and so copied,
    # whenever one collects garbage. At its end, that would be most of what it costs.
    gc.collect()
    gc.freeze()


def become(request: Mapping[str, Any], descriptors: Mapping[int, int]) -> None:
    """Have what a process has that was started by whoever asks. `descriptors`: those that it has,
    by the numbers that they have there."""
    # Out of the way first, as one may have the number of another.
    above = max(*descriptors, *descriptors.values()) + 1
    moved = {to: fcntl.fcntl(each, fcntl.F_DUPFD, above) for to, each in descriptors.items()}
    for each in descriptors.values():
        os.close(each)
    for number, each in moved.items():
        os.dup2(each, number)
        os.close(each)
    if request["new session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["most descriptors"]))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_program(path: str) -> None:
    """As ``python PATH`` does."""
    main = types.ModuleType("__main__")
    main.__file__ = os.path.abspath(path)
    sys.modules["__main__"] = main
    sys.path[0] = os.path.dirname(main.__file__)
    with io.open_code(main.__file__) as file:
        code = compile(file.read(), path, "exec")
    exec(code, vars(main))


if __name__ == "__main__":
    # A Ctrl-C is meant for pytest, which ends this one by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    prepare(sys.argv[2:])
    from anysock.machine import line_writer

    # Whoever looks whether a server has come to rest would wait for this thread, in each test.
    line_writer._LINGER_SECONDS = 0.01
    asked = forked(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[1:] = asked["arguments"]
    if asked["what"] == "-m":
        sys.path[0] = os.getcwd()
        runpy.run_module("anysock", run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = asked["what"]
        run_program(asked["what"])
