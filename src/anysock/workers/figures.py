"""The figures of all workers together, for the admin endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from anysock.telemetry import metrics
from anysock.telemetry.counters import Counters
from anysock.telemetry.metrics import Snapshot
from anysock.workers.process import WorkerProcess

if TYPE_CHECKING:
    from anysock.admin.query import LiveQuery

# Seconds that workers have to answer. They answer on a thread of their own, whatever their engine
# does. For one that has not answered by then its last figures are used, and no further question
# waits for it until it does answer: so a worker that is stopped delays one probe only, and by less
# time than a probe has.
ASK_SECONDS = 0.5


class Question:
    """What was asked of all workers, and what they have answered."""

    def __init__(self, kind: str, most: int = 0, **more: Any) -> None:
        #: ``figures``; ``connections``: of these, the `most` oldest; ``live``, of a `query`; or to
        #: ``abort`` the `connection` with an ID.
        self.words = {"do": kind, "most": most, **more}
        #: The process IDs of the workers whose answers are missing.
        self.missing: set[int] = set()
        self.answers: dict[int, Any] = {}
        #: What was known when the question was asked: the figures of the workers that had ended,
        #: and the last ones of the others. So each worker counts once, also if it ends meanwhile.
        self.gone: Snapshot = {}
        self.last: dict[int, Snapshot] = {}
        self.done = threading.Event()

    def answer(self, pid: int, value: Any) -> None:
        self.answers[pid] = value
        self.leave_out(pid)

    def leave_out(self, pid: int) -> None:
        """Do not wait for that worker (any longer)."""
        self.missing.discard(pid)
        if not self.missing:
            self.done.set()


class Questions:
    """The questions that were asked. Used on the supervisor's own thread only."""

    def __init__(self) -> None:
        # The figures of the workers that have ended.
        self._gone: Snapshot = {}
        self._open: dict[int, Question] = {}
        self._next = 0
        # The process IDs of workers that did not answer the last question in time.
        self._deaf: set[int] = set()

    def ask(self, question: Question, workers: list[WorkerProcess]) -> None:
        """Ask `workers`, which are those that serve. One whose socket is full is not waited for."""
        number = self._next
        self._next += 1
        # Questions come one after the other: the time for answers to the last is over.
        for other in self._open.values():
            self._deaf |= other.missing
        self._open = {number: question}
        question.missing = {worker.pid for worker in workers} - self._deaf
        question.gone = self._gone
        question.last = {worker.pid: worker.figures for worker in workers}
        for worker in workers:
            if not worker.control.send_if_ready(id=number, **question.words):
                question.leave_out(worker.pid)
        if not question.missing:
            question.done.set()

    def answered(self, number: int, worker: WorkerProcess, value: Any) -> None:
        """`worker` has answered the question with that number, perhaps too late."""
        self._deaf.discard(worker.pid)
        if isinstance(value, dict):  # figures, or what has them in it; connections are a list
            worker.figures = value.get("figures", value)
        if number in self._open:
            self._open[number].answer(worker.pid, value)

    def is_gone(self, worker: WorkerProcess) -> None:
        """`worker` has ended. Its last figures still count."""
        for question in self._open.values():
            question.leave_out(worker.pid)
        self._deaf.discard(worker.pid)
        self._gone = metrics.add([self._gone, metrics.what_remains(worker.figures)])


class Asked(Protocol):
    """The supervisor, for `FleetFigures`. Its methods run on the supervisor's own thread, except
    `call` and the properties."""

    def call(self, func: Callable[[], object]) -> None:
        """Let `func` be called on the supervisor's own thread."""
        ...

    def ask(self, question: Question) -> None:
        """Ask the workers. To be called on the supervisor's own thread."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def request_end(self) -> None: ...

    @property
    def unready(self) -> str | None: ...

    @property
    def max_connections(self) -> int: ...


class FleetFigures:
    """The workers, as the admin endpoint sees them (`anysock.admin.Figures`)."""

    def __init__(self, supervisor: Asked) -> None:
        self._supervisor = supervisor

    def _ask(self, question: Question) -> dict[int, Any]:
        self._supervisor.call(lambda: self._supervisor.ask(question))
        question.done.wait(ASK_SECONDS)
        return dict(question.answers)

    def snapshot(self) -> Snapshot:
        question = Question("figures")
        return self._sum(question, self._ask(question))

    def _sum(self, question: Question, answers: dict[int, Snapshot]) -> Snapshot:
        # A worker that does not answer counts with its last figures, so that no counter goes back.
        # The supervisor's own figures are those of a server without a client; with them there is an
        # answer even if no worker has given one.
        ours = metrics.snapshot(Counters(), None, lag=0.0, highest_lag=0.0, stuck=0)
        found = metrics.add([ours, question.gone, *(question.last | answers).values()])
        return found | {
            "most_connections": self._supervisor.max_connections,
            "workers": len(answers),
        }

    def connections(self, most: int) -> list[dict[str, Any]]:
        answers = self._ask(Question("connections", most))
        found = [
            each | {"worker": pid} for pid, connections in answers.items() for each in connections
        ]
        return sorted(found, key=lambda each: -each["seconds"])[:most]

    def live(self, query: LiveQuery) -> dict[str, Any]:
        question = Question("live", query=query.as_dict())
        answers = self._ask(question)
        figures = self._sum(question, {pid: each["figures"] for pid, each in answers.items()})
        steps = [each["steps"] for each in answers.values() if each["steps"] is not None]
        return {
            "figures": figures,
            "steps": [sum(counts) for counts in zip(*steps, strict=True)] if steps else None,
            "workers": [worker for each in answers.values() for worker in each["workers"]],
            "held_up": [worker for each in answers.values() for worker in each["held_up"]],
            "open": sum(each["open"] for each in answers.values()),
            "matching": sum(each["matching"] for each in answers.values()),
            "rows": [
                row | {"worker": pid} for pid, each in answers.items() for row in each["rows"]
            ],
        }

    def end(self, connection: str) -> bool:
        return any(self._ask(Question("abort", connection=connection)).values())

    def drain(self) -> None:
        self._run(self._supervisor.request_end)

    def ready(self) -> str | None:
        return self._supervisor.unready

    def pause(self) -> None:
        self._run(self._supervisor.pause)

    def resume(self) -> None:
        self._run(self._supervisor.resume)

    def _run(self, func: Callable[[], object]) -> None:
        """Return once `func` was called: a client that asks afterwards must see the result."""
        done = threading.Event()

        def do() -> None:
            func()
            done.set()

        self._supervisor.call(do)
        done.wait(ASK_SECONDS)
