"""What our loop tells a trace: turns, steps of tasks, wake-ups, timers, interests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anysock.errors import Cancelled
from anysock.loop.observers import ObservedContext, Observer, WatchedLoop
from anysock.loop.pollers import READABLE, WRITABLE
from anysock.loop.tasks import Task, Wait
from anysock.streams.connection import Connection
from anysock.streams.current import connection_of
from anysock.traces.writer import TraceWriter, to_json

# How long lines may stay in this process before they are in the file, in seconds.
_FLUSH_SECONDS = 0.5

# How many lines are kept.
_MOST = 500

_WANTS = {0: "", READABLE: "r", WRITABLE: "w", READABLE | WRITABLE: "rw"}


class _Known:
    """What was told of a task."""

    __slots__ = ("connection", "got", "number", "sent", "stream", "wait", "waits")

    def __init__(self, number: int) -> None:
        self.number = number
        # What it waited for last, and that as fields of JSON. Most tasks wait for the same thing
        # again and again.
        self.wait: Wait | None = None
        self.waits = ""
        self.connection: Connection | None = None
        # What counts its bytes.
        self.stream: Any = None
        self.got = self.sent = 0


class StepRecorder(Observer):
    """Writes what the loop does. `since` is the time of its clock that is 0 in the trace."""

    def __init__(self, loop: WatchedLoop, writer: TraceWriter, since: float) -> None:
        self._loop = loop
        self._kernel = loop.kernel
        self._clock: Callable[[], float] = loop.kernel.clock
        self._writer = writer
        self._since = since
        self._tasks: dict[Task, _Known] = {}
        self._number = 0
        self._lines: list[str] = []
        self._flushed = since
        compiled = self._kernel.compiled
        if compiled is not None and self._kernel.turn is compiled.turn and self._kernel.monotonic:
            self.recorder = compiled.Recorder(since, self.flush)
            compiled.record(ObservedContext, _Known)

    def begin(self) -> None:
        """Tell what is there already."""
        now = self._clock()
        for task in self._kernel.tasks:
            known = self._meet(task, now)
            if task is not self._kernel.current and task.wait is not None:
                known.waits = self._told(known, task.wait, now)
                self._add(now, f'"step","task":{known.number},"ran":0{known.waits}')
        for number, when in self._loop.timers():
            self._add(now, f'"timer","timer":{number},"due":{self._due(when)}')
        for fd, descriptor in self._kernel.descriptors.items():
            if descriptor.interest:
                self.interest_changed(fd, descriptor.interest)

    def flush(self) -> None:
        """Let the writer have all lines, and write them."""
        if self.recorder is not None:
            self._lines.append(self.recorder.take())
        self._hand_over()
        self._writer.flush()

    def _hand_over(self) -> None:
        lines, self._lines = self._lines, []
        self._writer.write("".join(lines))

    # -- as an observer ------------------------------------------------------------------------

    def turn_began(self, slept: float, woken: int) -> None:
        now = self._clock()
        self._add(now, f'"turn","slept":{round(slept * 1e9)},"events":{woken}')
        if now - self._flushed >= _FLUSH_SECONDS:
            self._flushed = now
            self.flush()

    def task_spawned(self, task: Task) -> None:
        self._meet(task, self._clock())

    def step(
        self, task: Task, began: float, ended: float, wait: Wait | None, error: BaseException | None
    ) -> None:
        known = self._tasks.get(task) or self._meet(task, began)
        connection = known.connection
        if connection is None:
            moved = self._serves(known, task, began)
        else:
            stream = known.stream = connection.stream
            got, sent = stream.bytes_received, stream.bytes_sent
            if got != known.got or sent != known.sent:
                moved = f',"got":{got - known.got},"sent":{sent - known.sent}'
                known.got, known.sent = got, sent
            else:
                moved = ""
        if wait is not known.wait or wait is None:
            known.waits = _end(error) if wait is None else self._told(known, wait, ended)
        when, ran = int((began - self._since) * 1e9), int((ended - began) * 1e9)
        self._lines.append(
            f'{{"t":{when},"e":"step","task":{known.number},"ran":{ran}{known.waits}{moved}}}\n'
        )
        if wait is None:
            del self._tasks[task]
        if len(self._lines) > _MOST:
            self._hand_over()

    def task_woken(self, task: Task, outcome: Any) -> None:
        now = self._clock()
        known = self._tasks.get(task) or self._meet(task, now)
        raised = _field("error", _name(outcome)) if isinstance(outcome, BaseException) else ""
        self._add(now, f'"wake","task":{known.number}{self._by()}{raised}')

    def timer_set(self, number: int, when: float) -> None:
        self._add(self._clock(), f'"timer","timer":{number},"due":{self._due(when)}{self._by()}')

    def timer_ended(self, number: int, fired: bool) -> None:
        how = "fired" if fired else "cancelled"
        self._add(self._clock(), f'"timer_end","timer":{number},"how":"{how}"')

    def interest_changed(self, fd: int, interest: int) -> None:
        wants = _WANTS[interest & (READABLE | WRITABLE)]
        self._add(self._clock(), f'"interest","fd":{fd},"wants":"{wants}"')

    # -- lines ---------------------------------------------------------------------------------

    def _add(self, when: float, rest: str) -> None:
        self._lines.append(f'{{"t":{round((when - self._since) * 1e9)},"e":{rest}}}\n')

    def _meet(self, task: Task, now: float) -> _Known:
        """A task that nothing was told of yet."""
        self._number += 1
        known = self._tasks[task] = _Known(self._number)
        if isinstance(context := task.context, ObservedContext):
            context.known, context.recorder = known, self.recorder
        name = to_json(task.name)
        self._add(now, f'"task","task":{known.number},"name":{name}{self._by()}')
        return known

    def _serves(self, known: _Known, task: Task, now: float) -> str:
        """Look whether the task has a connection now. Returns what that has moved, as fields."""
        context: Any = task.context
        connection = known.connection = connection_of(getattr(context, "observed", context))
        if connection is None:
            return ""
        self._add(now, f'"serves","task":{known.number},"conn":"{connection.id}"')
        # What a task has that the handler has spawned was moved before.
        own = task.name.startswith("client ")
        known.stream = stream = connection.stream
        known.got, known.sent = got, sent = stream.bytes_received, stream.bytes_sent
        return f',"got":{got},"sent":{sent}' if own and (got or sent) else ""

    def _told(self, known: _Known, wait: Wait, now: float) -> str:
        """What a task waits for, as fields."""
        if not isinstance(wait, Wait):
            return ""  # the loop will tell it that this is none of ours
        kind: Any = wait.kind
        known.wait = wait
        if kind == "sleep":
            known.wait = None  # until another time, next time
            sleep: Any = wait
            if sleep.seconds <= 0:
                return ',"wait":"ready"'
            return f',"wait":"sleep","until":{self._due(sleep.due(now))}'
        if kind == "join":
            target = self._tasks.get(wait.target)  # type: ignore[attr-defined]
            return ',"wait":"join"' + (f',"on":{target.number}' if target else "")
        descriptor = getattr(wait, "descriptor", None)
        return f',"wait":"{kind}"' + (f',"fd":{descriptor.fd}' if descriptor else "")

    def _due(self, when: float) -> int:
        return round((when - self._since) * 1e9)

    def _by(self) -> str:
        current = self._kernel.current
        known = None if current is None else self._tasks.get(current)
        return "" if known is None else f',"by":{known.number}'


def _end(error: BaseException | None) -> str:
    if error is None:
        return ',"end":"returned"'
    if isinstance(error, Cancelled):
        return ',"end":"cancelled"'
    return ',"end":"failed"' + _field("error", _name(error))


def _name(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _field(name: str, text: str) -> str:
    return f',"{name}":{to_json(text)}'
