"""A program of the ladder, as it is, with three clients; what it does is written as a trace.

    python examples/traces/rung examples/ladder/s04_blocking.py s04.jsonl

The program runs unchanged. What it has from the standard library (its sockets, its selector, the
queue in which a loop keeps the tasks that are ready) does what it always does, and tells of it.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import clients
import sockets
import tasks
from recording import described, recording


class Told:
    """Standard output or error: each text that is written to it is told of as well."""

    def __init__(self, stream: Any, what: str) -> None:
        self._stream = stream
        self._what = what
        self._begun = ""

    def write(self, text: str) -> int:
        # Of a traceback, what it is about and how it ends.
        whole, _, self._begun = (self._begun + text).rpartition("\n")
        lines = whole.splitlines()
        if lines:
            said = lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
            recording.tell("mark", what=self._what, text=said)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_run = threading.Thread.run


def run_thread(thread: threading.Thread) -> None:
    """Stands in for threading.Thread.run."""
    _run(thread)
    recording.thread_ends()


def free_port() -> int:
    with sockets.plain() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def record(path: Path) -> None:
    text = path.read_text()
    recording.tasks = "async def" in text
    port = free_port()
    over = threading.Event()

    def press_ctrl_c() -> None:
        # Ann, where she stays, has been silent for long by then.
        time.sleep(max(0.1 - recording.now() / 1e9, 0.01))
        recording.until_threads_have_ended()
        if not over.is_set():
            recording.tell("mark", what="Ctrl-C")
            os.kill(os.getpid(), signal.SIGINT)

    # Who never sleeps has the interpreter for so long, and the clients are to have their turns.
    sys.setswitchinterval(0.0005)
    # A shell starts what runs in its background deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    play = threading.Thread(target=clients.play, args=(path.stem, port, press_ctrl_c), name="all")
    play.start()
    socket.socket = sockets.Socket
    selectors.DefaultSelector = sockets.Selector
    collections.deque = tasks.Ready
    asyncio.Handle._run = tasks.run_handle
    ctypes.CDLL = tasks.Library
    threading.Thread.run = run_thread
    sys.stdout = Told(sys.stdout, "prints")
    sys.stderr = Told(sys.stderr, "complains")
    sys.argv = [str(path), "127.0.0.1", str(port)]
    worker = None if recording.tasks else recording.thread()
    if recording.tasks and "import asyncio" not in text:
        sys.setprofile(tasks.profile)
    how = {"end": "returned"}
    try:
        runpy.run_path(str(path), run_name="__main__")
    except Exception as error:
        how = {"end": "failed", "error": described(error)}
        recording.tell("mark", what="complains", text=f"Traceback … {described(error)}")
    finally:
        sys.setprofile(None)
        over.set()
    if worker is not None:
        worker.ends(**how)
    gc.collect()  # as at the end of the interpreter: what is collected may have something to say
    recording.tell("mark", what="the program has ended")
    play.join()


if __name__ == "__main__":
    program, out = map(Path, sys.argv[1:])
    record(program)
    recording.write(out, program.name)
