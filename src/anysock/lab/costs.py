"""Claims about cost: what a connection and a message cost under each engine."""

from __future__ import annotations

from collections.abc import Iterable

from anysock.bench.idle import idle_cost
from anysock.bench.load import load
from anysock.bench.plan import Plan
from anysock.bench.servers import all_servers, running
from anysock.lab.claims import Claims, Finding, NotMeasured, Verdict
from anysock.lab.stage import each_engine
from anysock.net.addresses import Address

CLAIMS = Claims()

_CONNECTIONS = 500


@CLAIMS.claim(
    "a-connection-costs-memory",
    says="A thread for each client costs far more memory than a task",
    how=f"{_CONNECTIONS} clients that have spoken once: how much the server's memory grew for "
    "each.",
    threshold="threads: over 10,000 bytes each; tasks: under 10,000",
    read_on="docs/performance.md; docs: which I/O model",
)
def _connection() -> Iterable[Finding]:
    servers = {server.name: server for server in all_servers(None)}
    for engine in each_engine(concurrent=True):
        if isinstance(engine, Finding):
            yield engine
            continue
        with running(servers[f"anysock {engine}"]) as (pid, port):
            cost = idle_cost(pid, Address("127.0.0.1", port), _CONNECTIONS)
        if cost is None:
            raise NotMeasured("there is no /proc/PID/status")
        size = cost["bytes"]
        holds = size > 10_000 if engine == "threads" else size < 10_000
        yield Finding.judge(engine, f"{size:,.0f} bytes", holds, size)


@CLAIMS.claim(
    "a-message-costs-cpu-time",
    says="Our event loop spends less CPU time on a message than asyncio's socket methods, and than "
    "uvloop's and trio's streams",
    how="50 clients (one for blocking) echo 64 bytes for 0.7 s, after 0.3 s of warm-up: the CPU "
    "time of the server, by the messages that it answered.",
    threshold="selector: less than asyncio, uvloop and trio",
    read_on="docs/performance.md; engines/nonblocking.py",
)
def _message() -> Iterable[Finding]:
    servers = {server.name: server for server in all_servers(None)}
    costs: dict[str, float] = {}
    for engine in each_engine():
        if isinstance(engine, Finding):
            yield engine
            continue
        count = 1 if engine == "blocking" else 50
        with running(servers[f"anysock {engine}"]) as (pid, port):
            plan = Plan(Address("127.0.0.1", port), connections=count, duration=0.7, warmup=0.3)
            outcome = load(plan, server=[pid])
        if outcome.server_cpu is None or not outcome.messages:
            raise NotMeasured("there is no /proc/PID/schedstat")
        costs[engine] = outcome.server_cpu.total / outcome.messages * 1e6
    for engine, cost in costs.items():
        dearer = costs["selector"] < cost
        compared = engine in ("asyncio", "uvloop", "trio")
        yield Finding(
            engine,
            f"{cost:.2f} µs",
            Verdict.CONFIRMED if dearer or not compared else Verdict.REFUTED,
            cost,
        )
