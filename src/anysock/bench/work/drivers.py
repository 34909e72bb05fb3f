"""Load generators of others, which drive the work that is not an echo."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anysock.bench.generator.latencies import Latencies
from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.processes import Cpu, cpu_of, program
from anysock.errors import StartError

_WRK_SCRIPT = Path(__file__).parent / "wrk.lua"

# How much longer than it was asked to a driver may take.
_PATIENCE = 30.0

# How many requests a second a server is taken to answer while it is not known, for the warm-up.
_GUESSED_RATE = 50_000


@dataclass(frozen=True)
class Driver:
    """A program that loads a server."""

    name: str
    #: The package of Debian that has it.
    package: str
    #: Loads ``plan.address`` with an operation, on a core, and says what was found; the server is
    #: the process of that id.
    drive: Callable[[Plan, str, int, int | None], Outcome]

    @property
    def why_not(self) -> str | None:
        """Why it can't run here."""
        if shutil.which(self.name):
            return None
        return f"{self.name} is not installed (Debian: apt install {self.package})"


def _redis_benchmark(plan: Plan, operation: str, server: int, core: int | None) -> Outcome:
    """redis-benchmark ends after a number of requests: it is asked for as many as a first run, the
    warm-up, says that there will be in ``plan.duration``."""

    def run(requests: int) -> Outcome:
        # No fewer than it has in flight at once.
        requests = max(requests, plan.connections * plan.depth)
        numbers = ("-c", plan.connections, "-P", plan.depth, "-d", plan.size, "-n", requests)
        where = ("-h", plan.address.host, "-p", plan.address.port)
        command = ["redis-benchmark", *where, *numbers, "-t", operation.lower(), "--precision", 3]
        return parse_redis_benchmark(*_run(plan, [*map(str, command)], server, core))

    first = run(round((plan.warmup or 0.1) * _GUESSED_RATE))
    return run(round(first.rate * plan.duration))


def parse_redis_benchmark(found: Outcome, said: str) -> Outcome:
    """Add to `found` what redis-benchmark `said`. Raises `StartError` if it is something else.

    It tells how many answers came within which times, twice: by percentile and by tenths of a
    millisecond. Both together are a histogram whose p50 is exact to a µs or so.
    """
    rate = re.search(r"throughput summary: ([\d.]+) requests per second", said)
    requests = re.search(r"(\d+) requests completed in", said)
    points = re.findall(r"% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", said)
    if rate is None or requests is None or not points:
        raise StartError("can't read what redis-benchmark says: no throughput, no latencies")
    counted = 0
    for milliseconds, below in sorted((float(at), int(count)) for at, count in points):
        if below > counted:
            found.echo.add(milliseconds / 1e3, below - counted)
            counted = below
    found.messages = int(requests[1])
    found.seconds = found.messages / float(rate[1])
    return found


def _wrk(plan: Plan, _operation: str, server: int, core: int | None) -> Outcome:
    """wrk counts in whole seconds."""

    def run(seconds: float) -> Outcome:
        whole = max(round(seconds), 1)
        url = f"http://{plan.address.host}:{plan.address.port}/"
        options = ["-t1", f"-c{plan.connections}", f"-d{whole}s", "-s", str(_WRK_SCRIPT)]
        return parse_wrk(*_run(plan, ["wrk", *options, url], server, core))

    if plan.warmup:
        run(plan.warmup)
    return run(plan.duration)


def parse_wrk(found: Outcome, said: str) -> Outcome:
    """Add to `found` what our script says at the end of wrk. Raises `StartError` if it is
    something else."""
    lines = [line.split() for line in said.splitlines() if line.startswith("anysock ")]
    told = {name: figures for _, name, *figures in lines if name != "latency"}
    try:
        requests, microseconds, size = map(int, told["requests"])
        errors = {kind: int(count) for kind, count in zip(*[iter(told["errors"])] * 2, strict=True)}
        for _, name, *figures in lines:
            if name == "latency":
                found.echo.add(int(figures[0]) / 1e6, int(figures[1]))
    except (KeyError, IndexError, ValueError) as error:
        raise StartError(f"can't read what wrk says: {error}") from None
    found.messages = requests
    found.seconds = microseconds / 1e6
    found.errors.update({kind: count for kind, count in errors.items() if count})
    found.bytes_received = size
    return found


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("redis-benchmark", "redis-tools", _redis_benchmark),
        Driver("wrk", "wrk", _wrk),
    )
}


def _run(plan: Plan, command: Sequence[str], server: int, core: int | None) -> tuple[Outcome, str]:
    """Run a driver: what it has cost itself and the server, and what it said. Raises `StartError`
    when it fails."""
    found = Outcome(plan, opened=plan.connections, echo=Latencies())
    before, children = cpu_of([server]), _children_cpu()
    with program(command) as process:
        if core is not None:
            with contextlib.suppress(ProcessLookupError):  # it has failed by now
                os.sched_setaffinity(process.pid, {core})
        try:
            said, _ = process.communicate(timeout=plan.warmup + plan.duration + _PATIENCE)
        except subprocess.TimeoutExpired:
            raise StartError(f"{command[0]} did not come to its end") from None
        code = process.returncode
    after = cpu_of([server])
    if code:
        lines = said.strip().splitlines() or ["it says nothing"]
        raise StartError(f"{command[0]} failed with exit code {code}: {lines[-1]}")
    if before is not None and after is not None:
        found.server_cpu = _used(before, after)
    found.load_cpu = [_children_cpu() - children]
    return found, said


def _used(before: Cpu, after: Cpu) -> Cpu:
    """What the server has used. Its threads that have ended with their clients are in the ticks
    alone, which are right within 10 ms."""
    used = after - before
    ticks = after.user + after.system - before.user - before.system
    if ticks <= used.total * 1.2:
        return used
    return Cpu(ticks, after.user - before.user, after.system - before.system)


def _children_cpu() -> float:
    """The CPU time of the processes that we have started, and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
