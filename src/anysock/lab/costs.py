"""Claims about cost: what a connection and a message cost under each engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from anysock.bench.generator.plan import Plan
from anysock.bench.idle import idle_cost
from anysock.bench.load import load
from anysock.bench.servers import our_server, running
from anysock.engines import DEFAULT, ENGINES, EngineEntry
from anysock.lab.claims import Claims, Finding, NotMeasured, Verdict
from anysock.lab.stage import concurrent, on_each_engine
from anysock.net.addresses import Address

CLAIMS = Claims()

_CONNECTIONS = 500


@CLAIMS.claim(
    "a-connection-costs-memory",
    says="A thread for each client costs far more memory than a task",
    how=f"{_CONNECTIONS} clients connect, and send one message each; the growth of the server's "
    "memory, divided by their number.",
    threshold="threads: over 10,000 bytes each; tasks: under 10,000",
    read_on="docs/performance.md; docs/explanation/which-model.md",
)
@on_each_engine(concurrent)
def _connection(engine: EngineEntry) -> Finding:
    with running(our_server(engine.name)) as (pid, port):
        cost = idle_cost(pid, Address("127.0.0.1", port), _CONNECTIONS)
    if cost is None:
        raise NotMeasured("there is no /proc/PID/status")
    size = cost["bytes"]
    holds = size > 10_000 if engine.thread_each else size < 10_000
    return Finding.judge(engine.name, f"{size:,.0f} bytes", holds, size)


@CLAIMS.claim(
    "a-message-costs-cpu-time",
    says="Our event loop spends less CPU time on a message than the loops of asyncio, uvloop and "
    "trio",
    how="50 clients (one for blocking) echo 64 bytes for 0.7 s, after 0.3 s of warm-up: the CPU "
    "time of the server, divided by the messages that it answered.",
    threshold="selector: less than asyncio, asyncio-sock, uvloop and trio",
    read_on="docs/performance.md; engines/nonblocking",
)
def _message() -> Iterable[Finding]:
    measured = list(_cost_of_a_message())
    costs = {found.subject: found.value for found in measured if found.value is not None}
    for found in measured:
        another_loop = bool(ENGINES[found.subject].loop) and not ENGINES[found.subject].has_our_loop
        if found.value is None or not another_loop or costs[DEFAULT] < found.value:
            yield found
        else:
            yield dataclasses.replace(found, verdict=Verdict.REFUTED)


@on_each_engine()
def _cost_of_a_message(engine: EngineEntry) -> Finding:
    count = 50 if engine.concurrent else 1
    with running(our_server(engine.name)) as (pid, port):
        plan = Plan(Address("127.0.0.1", port), connections=count, duration=0.7, warmup=0.3)
        outcome = load(plan, server=[pid])
    if outcome.server_cpu is None or not outcome.messages:
        raise NotMeasured("there is no /proc/PID/schedstat")
    cost = outcome.server_cpu.total / outcome.messages * 1e6
    return Finding.judge(engine.name, f"{cost:.2f} µs", holds=True, value=cost)
