"""Comparing servers: rounds of measurements, until they are enough.

In each round every server does each piece of work once, right after the others: a machine changes
its speed from minute to minute, but less within a round. So what is reported of a server is the
median of its ratios to the base line of the same round, with the interval that holds the true one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anysock.bench.generator.plan import Plan
from anysock.bench.idle import idle_cost
from anysock.bench.load import Outcome, c_worker, load, python_worker
from anysock.bench.processes import raise_descriptor_limit
from anysock.bench.results import Measurement, Results, Settings, Work, cores, this_machine
from anysock.bench.servers import C_EPOLL, Server, our_server, running
from anysock.bench.work.drivers import DRIVERS
from anysock.bench.work.kinds import ECHO, KINDS, Kind
from anysock.engines import DEFAULT
from anysock.errors import StartError, UsageError
from anysock.net.addresses import Address


def new_results(
    available: Mapping[str, Server],
    kind: Kind = ECHO,
    *,
    compiled: bool,
    names: tuple[str, ...],
    baseline: str | None,
    generator: str | None,
    works: tuple[Work, ...],
    sweep: bool,
    **settings: Any,
) -> Results:
    """Results of a comparison in which nothing is measured yet.

    `names` are the servers to measure, of those `available` for this `kind` of work; empty: all,
    or in a `sweep` our own. `baseline` is by default that of the kind, and `generator` the one in C
    where there is one `compiled`. `settings` are further fields of `Settings`. Raises `UsageError`
    for a server that there is not, and for a base line that can't run here; and `StartError` for a
    driver that is not installed.
    """
    if kind.driver is not None and (why_not := DRIVERS[kind.driver].why_not):
        raise StartError(f"--work {kind.name}: {why_not}")
    ours = our_server(DEFAULT).name
    baseline = baseline or kind.baseline or (C_EPOLL if compiled else ours)
    unknown = [name for name in (*names, baseline) if name not in available]
    if unknown:
        raise UsageError(f"no such server: {', '.join(unknown)}; there are {', '.join(available)}")
    if why_not := available[baseline].why_not:
        raise UsageError(f"{baseline} can't be the base line: {why_not}")
    if not names:
        names = tuple(name for name in available if available[name].ours or not sweep)
    missing = {
        name: why_not
        for name in dict.fromkeys((baseline, *names))
        if (why_not := available[name].why_not) is not None
    }
    return Results(
        Settings(
            works=works,
            servers=tuple(n for n in dict.fromkeys((baseline, *names)) if n not in missing),
            baseline=baseline,
            generator=kind.driver or generator or ("c" if compiled else "python"),
            **settings,
        ),
        this_machine(kind.packages),
        missing=missing,
    )


def works(
    kind: Kind,
    connections: Sequence[int],
    sizes: Sequence[int],
    depths: Sequence[int],
    socket_buffer: int | None,
    *,
    churn: bool,
) -> tuple[Work, ...]:
    """Each number of connections with each size and depth, those of `kind` where there are none;
    and with `churn`, a connection for each message of the first size."""
    sizes = sizes or kind.sizes
    found = tuple(
        Work(count, size, depth, socket_buffer=socket_buffer, kind=kind.name, operation=operation)
        for size in sizes
        for count in connections or kind.connections
        for depth in depths or kind.depths
        for operation in kind.operations
    )
    return (*found, Work(1, sizes[0], churn=True)) if churn else found


class Comparison:
    """Measures until there is enough, or the bounds are met; `results` is right at any moment."""

    def __init__(
        self,
        results: Results,
        servers: Sequence[Server],
        tools: Path | None,
        *,
        told: Callable[[str], None] = lambda _: None,
        kept: Callable[[Results], None] = lambda _: None,
    ) -> None:
        self.results = results
        self._servers = servers
        self._told = told
        self._kept = kept
        self._worker: Callable[[Plan, int], list[str]] = python_worker
        if results.settings.generator == "c":
            assert tools is not None
            # Nobody looks at intervals here, and to put them together takes time of a processor
            # that may be the server's.
            self._worker = c_worker(tools / "load", ticks=False)
        places = cores() if hasattr(os, "sched_setaffinity") else []
        # A core each, so that the two never compete; with one core, as the system likes.
        self._server_core: int | None = None
        self._load_core: int | None = None
        if len(places) > 1:
            self._server_core, self._load_core = places[:2]

    def run(self) -> bool:
        """Measure what is missing; whether it came to its end (and not to a Ctrl-C)."""
        try:
            return self._run()
        except KeyboardInterrupt:  # between two measurements
            return False

    def _run(self) -> bool:
        raise_descriptor_limit()
        settings = self.results.settings
        for number in range(settings.most_rounds):
            for work in settings.works:
                if not self._do_round(number, work):
                    return False
            if number == 0 and settings.idle:
                self._measure_idle()
        self.results.complete = True
        return True

    def _do_round(self, number: int, work: Work) -> bool:
        """One piece of work, every server of which more is to be known."""
        wanted = [server for server in self._servers if self._wants(server, work)]
        base = self.results.settings.baseline
        if all(server.name == base for server in wanted) and self.results.enough(work, base):
            return True
        for server in wanted:
            if any(m.round == number for m in self.results.of(work, server.name)):
                continue  # done, before an interruption
            self._told(f"round {number + 1}: {work.name}: {server.name}")
            try:
                outcome = self._measure(server, work)
            except StartError as error:
                self.results.missing[server.name] = str(error)
                continue
            if outcome.interrupted:
                return False
            if not outcome.ok:
                kinds = ", ".join(outcome.errors) or "messages were not answered"
                self.results.missing[server.name] = f"{work.name}: {kinds}"
                continue
            self.results.measurements.append(Measurement.of(work, server, number, outcome))
            self._kept(self.results)
        return True

    def _wants(self, server: Server, work: Work) -> bool:
        if server.one_client and work.connections > 1:
            return False
        if work.socket_buffer is not None and server.buffer_option is None:
            return False
        if server.name in self.results.missing:
            return False
        return server.name == self.results.settings.baseline or not self.results.enough(
            work, server.name
        )

    def _measure(self, server: Server, work: Work) -> Outcome:
        settings = self.results.settings
        with running(server, self._server_core, work.socket_buffer) as (pid, port):
            kind = KINDS[work.kind]
            plan = Plan(
                Address("127.0.0.1", port),
                connections=work.connections,
                size=work.size,
                depth=work.depth,
                duration=settings.seconds,
                warmup=settings.warmup,
                churn=1 if work.churn else None,
                reset=work.churn,
                **kind.form,
            )
            if kind.driver is not None:
                driver = DRIVERS[kind.driver]
                return driver.drive(plan, work.operation, pid, self._load_core)
            return load(plan, worker=self._worker, server=[pid], core=self._load_core)

    def _measure_idle(self) -> None:
        for server in self._servers:
            name = server.name
            if server.one_client or name in self.results.idle or name in self.results.missing:
                continue
            self._told(f"{self.results.settings.idle} idle connections: {name}")
            with running(server, self._server_core) as (pid, port):
                cost = idle_cost(pid, Address("127.0.0.1", port), self.results.settings.idle)
            if cost is not None:
                self.results.idle[name] = cost
                self._kept(self.results)
