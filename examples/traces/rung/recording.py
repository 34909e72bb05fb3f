"""What a program of the ladder, and its clients, do: kept, and written as a trace."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anysock
from anysock.traces.format import head_of
from anysock.traces.writer import TraceWriter

# A program that only asks, and asks, is told of in pieces of so many nanoseconds.
PIECE = 10_000_000


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Connection:
    """What is told of a connection. It is called by its client's name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.got = self.sent = 0
        self.ended = ""  # why, as far as the program has been told


class Worker:
    """What runs, and waits: a thread, or a task."""

    def __init__(self, recording: Recording, name: str, by: int | None = None) -> None:
        self.recording = recording
        self.number = recording.next_number()
        self.name = name
        self.serves: Connection | None = None
        self.waits = False
        self.cancelled = False  # what it waited for was cancelled
        self._began = recording.now()
        self._vain = 0  # how many of its calls had to say "not yet"
        self._told = (0, 0)  # what its connection had got and sent
        self._moved = False
        recording.tell("task", self._began, task=self.number, name=name, by=by)

    def begins(self) -> None:
        self.waits = False
        self._began = self.recording.now()

    def ends(self, **how: Any) -> None:
        """A step is over: `how` says what it waits for, or how it has ended."""
        moved = {}
        if self.serves is not None:
            now = (self.serves.got, self.serves.sent)
            if now != self._told:
                moved = {"got": now[0] - self._told[0], "sent": now[1] - self._told[1]}
                self._told = now
        ran = self.recording.now() - self._began
        fields = {"ran": ran, "vain": self._vain or None, **moved, **how}
        self.recording.tell("step", self._began, task=self.number, **fields)
        self._vain, self._moved, self.waits = 0, False, True

    def works_for(self, connection: Connection | None) -> None:
        if connection is not None and connection is not self.serves:
            self.serves = connection
            self._told = (connection.got, connection.sent)
            self.recording.tell("serves", task=self.number, conn=connection.name)

    def asked_in_vain(self) -> None:
        self._vain += 1

    @contextlib.contextmanager
    def waiting(self, **what: Any) -> Iterator[None]:
        """It sleeps in the block, and nothing else of it runs."""
        self.ends(**what)
        try:
            yield
        finally:
            self.begins()


class Thread(Worker):
    """A thread: where a program has no tasks, its steps are what there is between its waits."""

    def works_for(self, connection: Connection | None) -> None:
        """What it does for one client is a step, and for the next another."""
        if self._vain or (self._moved and connection is not self.serves):
            self._cut()
        super().works_for(connection)
        self._moved = True

    def asked_in_vain(self) -> None:
        if self._moved or (self._vain and self.recording.now() - self._began >= PIECE):
            self._cut()
        super().asked_in_vain()

    def _cut(self) -> None:
        self.ends(wait="ready")
        self.begins()


def _name_of_this_thread() -> str:
    this = threading.current_thread()
    return "program" if this is threading.main_thread() else this.name


class Recording:
    """All that was told, by whatever thread."""

    def __init__(self) -> None:
        #: Whether the program has tasks; else its threads are what runs and waits.
        self.tasks = False
        #: The tasks that run: the last one, started by those before it.
        self.running: list[Worker] = []
        #: The descriptors of listeners and connections.
        self.descriptors: set[int] = set()
        #: By port: what the clients are called.
        self.names: dict[int, str] = {}
        #: Set when the program listens: the clients may come.
        self.listens = threading.Event()
        #: The program's main task has ended.
        self.over = False
        self._zero: int | None = None
        self._numbers = 0
        self._threads = threading.local()
        self._others: list[threading.Thread] = []
        self._told: list[tuple[int, str, dict[str, Any]]] = []
        self._turn: dict[str, Any] | None = None

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def now(self) -> int:
        """Nanoseconds since the program listens; what was before is of no interest, and at 0."""
        return 0 if self._zero is None else time.monotonic_ns() - self._zero

    def begin(self) -> None:
        self._zero = time.monotonic_ns()
        self.listens.set()

    def tell(self, kind: str, t: int | None = None, **fields: Any) -> None:
        self._told.append((self.now() if t is None else t, kind, fields))

    def turn(self, slept: int) -> None:
        """A loop that can't say how many were ready: they are counted as it resumes them."""
        self._turn = {"slept": slept, "events": 0}
        self._told.append((self.now(), "turn", self._turn))

    def step_begins(self, worker: Worker) -> None:
        if self._turn is not None and not self.running:
            self._turn["events"] += 1
        worker.begins()
        self.running.append(worker)

    def thread(self) -> Thread:
        """This thread."""
        found: Thread | None = getattr(self._threads, "worker", None)
        if found is None:
            found = self._threads.worker = Thread(self, _name_of_this_thread())
            if threading.current_thread() is not threading.main_thread():
                self._others.append(threading.current_thread())
        return found

    def until_threads_have_ended(self) -> None:
        """Wait for those of the program that serve clients who have left."""
        for thread in self._others:
            thread.join(1)

    def thread_ends(self) -> None:
        """This thread ends; if nothing was told of it, its end isn't either."""
        found: Thread | None = getattr(self._threads, "worker", None)
        if found is not None:
            found.ends(end="returned")

    @property
    def worker(self) -> Worker | None:
        """What runs here and now; None: a loop, which works for all."""
        if not self.tasks:
            return self.thread()
        return self.running[-1] if self.running else None

    def write(self, path: Path, title: str) -> None:
        writer = TraceWriter(path)
        began = "2026-01-01T00:00:00+00:00"  # it is the same whenever it is recorded
        writer.line(head_of("code", "none", title, began=began, version=anysock.__version__))
        accepted = {fields["conn"]: t for t, kind, fields in self._told if kind == "accept"}
        last = 0
        # A client learns a little later that it is connected than the system knows it; the program
        # may have taken it from the queue by then.
        told = [
            (min(t, accepted.get(fields["conn"], t)) if kind == "queued" else t, kind, fields)
            for t, kind, fields in self._told
        ]
        for t, kind, fields in sorted(told, key=lambda each: (each[0], each[1] != "queued")):
            writer.event(t, kind, **fields)
            last = max(last, t + fields.get("ran", 0))
        writer.close(last)


#: That of this process: it records one program.
recording = Recording()
