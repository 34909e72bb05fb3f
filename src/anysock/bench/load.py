"""The load generator: worker processes that load one address, and what they found, together."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anysock.bench.generator.latencies import Latencies
from anysock.bench.generator.plan import Plan
from anysock.bench.processes import Cpu, cpu_of, listeners_at, max_descriptors
from anysock.bench.series import Interval, Series
from anysock.engines.current import current_engine
from anysock.engines.posix.machine import MACHINE
from anysock.errors import Cancelled, StartError, UsageError
from anysock.net.addresses import resolve
from anysock.tasks import groups, runtime

# From this share on a core counts as busy, and below this one as not busy.
_BUSY = 0.95
_NOT_BUSY = 0.90

# How long a worker may take to close its connections.
_CLOSING_SECONDS = 5.0

# If the messages of an open loop leave later than this (s), the load side does not keep up.
_LATE = 1e-3


@dataclass
class Outcome:
    """What a load has found. Times in seconds."""

    plan: Plan
    #: How long it was measured.
    seconds: float = 0.0
    messages: int = 0
    #: How many connections were opened; more than asked for means that some broke.
    opened: int = 0
    #: Errors of connections, by kind.
    errors: Counter[str] = field(default_factory=Counter)
    #: Messages that were sent, or due, and never answered.
    unanswered: int = 0
    echo: Latencies = field(default_factory=Latencies)
    connect: Latencies = field(default_factory=Latencies)
    first_byte: Latencies = field(default_factory=Latencies)
    #: How late the load side sent the messages of an open loop.
    late: Latencies = field(default_factory=Latencies)
    #: The share of a core that each worker process used.
    load_cpu: list[float] = field(default_factory=list)
    #: How many bytes have come, where the driver counts them; and were sent, by a one-way load.
    bytes_received: int | None = None
    bytes_sent: int = 0
    #: The CPU time of the server, where it is a process of this machine.
    server_cpu: Cpu | None = None
    interrupted: bool = False
    #: The same, interval by interval; none where the worker was asked for no ticks.
    intervals: list[Interval] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0

    @property
    def flows(self) -> dict[str, float]:
        """Of a one-way load: bytes a second, by what happened to them."""
        whole = Interval(0.0, self.seconds, 0, self.bytes_sent, self.bytes_received or 0)
        return whole.flows(self.plan)

    @property
    def ok(self) -> bool:
        """Whether something was measured, and nothing went wrong."""
        moved = self.bytes_sent or self.bytes_received if self.plan.one_way else self.messages
        return bool(moved) and not self.errors and not self.unanswered

    @property
    def bottleneck(self) -> str | None:
        """A sentence, when the load side may have been what was measured."""
        busiest = max(self.load_cpu, default=0.0)
        if busiest < _BUSY:
            return None
        if self.plan.rate is not None and self.late.percentile(99) < _LATE:
            return None  # busy, and on time all the same
        used = f"a process of the load side used {busiest:.0%} of a core"
        if self.server_cpu is None:
            told = f"{used}: it may have been the bottleneck"
        elif (share := self.server_cpu.total / self.seconds) < _NOT_BUSY:
            told = f"{used}, the server {share:.0%}: the load side was the bottleneck"
        else:
            return None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        more = len(self.load_cpu) + 1
        return f"{told}; try --processes {more}" if more < cores else f"{told}; use another machine"

    def add(self, end: dict[str, Any]) -> None:
        """Add what a worker says at its end."""
        self.seconds = max(self.seconds, end["end"])
        self.messages += end["messages"]
        self.opened += end["opened"]
        if self.plan.one_way:
            self.bytes_sent += end["sent"]
            self.bytes_received = (self.bytes_received or 0) + end["received"]
        self.errors.update(end["errors"])
        self.unanswered += end["unanswered"]
        for name in ("echo", "connect", "first_byte", "late"):
            getattr(self, name).add_buckets(end.get(name, {}))
        self.load_cpu.append(end["cpu"] / end["end"] if end["end"] else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON; histograms as their figures, and encoded."""
        told: dict[str, Any] = {
            "plan": json.loads(self.plan.to_json()),
            "loop": self.plan.loop,
            "asked_rate": self.plan.rate,
            "rate": self.rate,
            "seconds": self.seconds,
            "messages": self.messages,
            "connections_opened": self.opened,
            "errors": dict(self.errors),
            "unanswered": self.unanswered,
            "load_cpu": self.load_cpu,
            "server_cpu": None,
            "bottleneck": self.bottleneck,
            "interrupted": self.interrupted,
        }
        if self.server_cpu is not None:
            told["server_cpu"] = self._server_to_dict(self.server_cpu)
        if self.plan.one_way:
            told |= {f"{name}_a_second": flow for name, flow in self.flows.items()}
            told |= {"bytes_sent": self.bytes_sent, "bytes_received": self.bytes_received}
        for name in ("echo", "connect", "first_byte", "late"):
            latencies: Latencies = getattr(self, name)
            if len(latencies):
                told[name] = latencies.summary() | {"hdr": latencies.encode()}
        told["intervals"] = [each.to_dict(self.plan) for each in self.intervals]
        return told

    def _server_to_dict(self, cpu: Cpu) -> dict[str, float]:
        told = {"share": cpu.total / self.seconds if self.seconds else 0.0}
        if self.plan.one_way:
            moved = self.bytes_sent + (self.bytes_received or 0)
            return told | {"seconds_a_byte": cpu.total / moved if moved else 0.0}
        each = 1 / self.messages if self.messages else 0.0
        return told | {
            "seconds_a_message": cpu.total * each,
            "user": cpu.user * each,
            "system": cpu.system * each,
        }


class Progress:
    """Is notified of the progress of a load. Does nothing; subclasses do."""

    def measuring(self) -> None:
        """The warm-up is over."""

    def tick(self, messages: int, echo: Latencies, moved: int = 0) -> None:
        """`messages` were answered since the last tick of the same worker; `echo` are their
        latencies. Of a one-way load, `moved` bytes were sent and received."""

    def interval(self, interval: Interval) -> None:
        """An interval of the measurement is over."""


def python_worker(plan: Plan, number: int) -> list[str]:
    """The command of a worker."""
    return [sys.executable, "-m", "anysock.bench.generator.worker", plan.to_json(), str(number)]


def c_worker(program: Path, *, ticks: bool = True) -> Callable[[Plan, int], list[str]]:
    """The command of a worker in C, for what that can do: see ``reference/load.c``. Without
    `ticks`, it says nothing until the end; then there are no intervals."""

    def command(plan: Plan, number: int) -> list[str]:
        share = plan.share(number)
        depth = 0 if plan.churn else plan.depth
        numbers = (share.connections, plan.size, depth, plan.warmup, plan.duration)
        form = "lines" if plan.lines else "frames" if plan.frames else "bytes"
        tick = plan.tick if ticks else 0
        return [str(program), str(plan.address.port), *map(str, numbers), form, str(tick)]

    return command


def load(
    plan: Plan,
    progress: Progress | None = None,
    *,
    worker: Callable[[Plan, int], list[str]] = python_worker,
    server: Sequence[int] | None = None,
    core: int | None = None,
) -> Outcome:
    """Load `plan.address` as `plan` says, and return what was found.

    `server` are the processes whose CPU time is told; by default those of this machine that
    listen there. All workers run on `core`; by default the system chooses. Ctrl-C ends the load
    early, and what was measured by then is returned.

    Raises `UsageError` for a plan that makes no sense, or for more connections than there are
    descriptors; `StartError` when no server answers.
    """
    plan.check()
    most = max_descriptors() - _SPARE_DESCRIPTORS
    if plan.share(0).connections > most:
        raise UsageError(
            f"--connections: {plan.connections} are more than can be opened, {most} by each "
            f"process (ulimit -Hn), of which there are {plan.processes} (--processes)"
        )
    if plan.address.tls:
        # Raises before the workers are started, if something is wrong.
        from anysock.net.certificates import client_context

        client_context(plan.tls_ca, plan.insecure, plan.tls_cert, plan.tls_key)
    if server is None:
        found = resolve(plan.address, MACHINE, passive=False)
        server = [pid for at in found for pid in listeners_at(at[1])]
    return runtime.run(_Load(plan, progress or Progress(), worker, server, core).run)


# What a worker has open besides its connections: the standard three, its poller, a folder.
_SPARE_DESCRIPTORS = 16


class _Load:
    def __init__(
        self,
        plan: Plan,
        progress: Progress,
        worker: Callable[[Plan, int], list[str]],
        server: Sequence[int],
        core: int | None,
    ) -> None:
        self._plan = plan
        self._progress = progress
        self._worker = worker
        self._server = server
        self._core = core
        self._series = Series(plan)
        self._outcome = Outcome(plan, intervals=self._series.intervals)
        self._before: Cpu | None = None
        self._errors: Counter[str] = Counter()

    async def run(self) -> Outcome:
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(self._started(number)) for number in range(self._plan.processes)
            ]
            following = runtime.spawn(self._follow_all(workers), name="load")
            try:
                await following.join()
            except Cancelled:
                self._outcome.interrupted = True
                _tell(workers)
                await following.join()
        return self._outcome

    @contextlib.contextmanager
    def _started(self, number: int) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            self._worker(self._plan, number),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A Ctrl-C is for us: we end the workers, and they report what they have measured.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if self._core is not None:
                os.sched_setaffinity(process.pid, {self._core})
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    async def _next_line(self, worker: subprocess.Popen[str]) -> dict[str, Any]:
        """The next line of a worker. Raises `StartError` when the worker has failed."""
        assert worker.stdout is not None
        line = await current_engine().to_thread(worker.stdout.readline)
        if not line:
            raise StartError(
                f"a worker of the load ended early, with exit code {worker.wait()}; see above"
            )
        said: dict[str, Any] = json.loads(line)
        if "failed" in said:
            raise StartError(said["failed"])
        return said

    def _check(self, ready: list[dict[str, Any]]) -> None:
        """Raises `StartError` when not one connection could be opened."""
        if self._plan.churn or any(said["ready"] for said in ready):
            return
        errors: Counter[str] = sum((Counter(said["errors"]) for said in ready), Counter())
        kinds = ", ".join(errors) or "no error was told"
        raise StartError(f"can't connect to {self._plan.address}: {kinds}")

    async def _follow_all(self, workers: list[subprocess.Popen[str]]) -> None:
        ready = [await self._next_line(worker) for worker in workers]
        if self._outcome.interrupted:
            return
        self._check(ready)
        _tell(workers)
        async with groups.task_group() as group:
            for number, worker in enumerate(workers):
                group.spawn(self._follow(number, worker))
        # The workers still hold their connections.
        after = cpu_of(self._server) if self._server else None
        if self._before is not None and after is not None:
            self._outcome.server_cpu = after - self._before
        await self._dismiss(workers)

    async def _dismiss(self, workers: list[subprocess.Popen[str]]) -> None:
        """Let the workers close their connections, which they do without a reset."""
        for worker in workers:
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
        for worker in workers:
            # One that does not end is killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                await current_engine().to_thread(worker.wait, _CLOSING_SECONDS)

    async def _follow(self, number: int, worker: subprocess.Popen[str]) -> None:
        measuring = False
        while "end" not in (said := await self._next_line(worker)):
            if "begin" in said:
                if self._before is None and self._server:
                    self._before = cpu_of(self._server)
                self._progress.measuring()
                measuring = True
            else:
                moved = said.get("sent", 0) + said.get("received", 0)
                self._progress.tick(said["tick"], Latencies.of(said["echo"]), moved)
                if measuring:
                    self._report(self._series.add(number, said))
        self._outcome.add(said)
        self._report(self._series.end(number))

    def _report(self, intervals: list[Interval]) -> None:
        for each in intervals:
            self._progress.interval(each)


def _tell(workers: list[subprocess.Popen[str]]) -> None:
    """Tell the workers to begin, or to end."""
    for worker in workers:
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its last line is to come
            worker.stdin.write(".")
            worker.stdin.flush()
