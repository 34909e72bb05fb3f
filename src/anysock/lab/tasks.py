"""Claims about asyncio: its tasks, and its memory. Programs of their own, so that nothing of ours
stands between."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable

from anysock.bench.generator.plan import Plan
from anysock.bench.load import load
from anysock.bench.servers import all_servers, running
from anysock.lab.claims import Claims, Finding, NotMeasured
from anysock.lab.stage import PATIENCE, program
from anysock.net.addresses import Address

CLAIMS = Claims()


def _said_by(text: str) -> list[str]:
    """The lines that a Python program prints, errors too."""
    command = [sys.executable, "-c", textwrap.dedent(text)]
    with program(command) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    return out.splitlines()


_SILENT = """
    import asyncio, sys

    async def boom():
        raise RuntimeError("boom")

    async def main():
        task = asyncio.create_task(boom())
        await asyncio.sleep(0.1)
        print("0.1 s later", flush=True)
        try:
            await task
        except RuntimeError as error:
            print("await raises", error, flush=True)
        forgotten = asyncio.create_task(boom())
        await asyncio.sleep(0.1)
        print("still there", flush=True)
        del forgotten
        print("collected", flush=True)

    asyncio.run(main())
"""


@CLAIMS.claim(
    "a-failed-task-is-silent",
    says="A task's exception is silent until the task is awaited; await raises it again",
    how="An asyncio task fails, and is awaited 0.1 s later. A second fails, and is forgotten.",
    threshold="no output in 0.1 s; await raises; 'never retrieved' is logged when the task is "
    "collected",
    read_on="asyncio.Task; docs/tutorial: S12",
)
def _silent() -> Iterable[Finding]:
    lines = _said_by(_SILENT)
    yield Finding.judge(
        "0.1 s after the failure",
        "nothing was said" if lines[:1] == ["0.1 s later"] else f"said: {lines[:1]}",
        lines[:1] == ["0.1 s later"],
    )
    yield Finding.judge("await", ", ".join(lines[1:2]), lines[1:2] == ["await raises boom"])
    told = [number for number, line in enumerate(lines) if "never retrieved" in line]
    after = lines.index("still there") if "still there" in lines else len(lines)
    holds = bool(told) and told[0] > after
    figure = lines[told[0]] if told else "nothing was said"
    yield Finding.judge("when it is collected", figure, holds)


_KEPT = """
    import asyncio, os, socket

    def sockets():
        return sum(
            os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
            for fd in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{fd}")
        )

    async def handle(connection):
        await asyncio.sleep(0)
        raise RuntimeError("boom")

    async def main(keep):
        tasks = []
        before = sockets()
        for _ in range(100):
            one, other = socket.socketpair()
            other.close()
            task = asyncio.create_task(handle(one))
            del one
            if keep:
                tasks.append(task)
            else:
                task.add_done_callback(lambda task: task.exception())
            del task
        await asyncio.sleep(0.1)
        print(keep, sockets() - before)
        for task in tasks:
            task.exception()

    asyncio.run(main(True))
    asyncio.run(main(False))
"""


@CLAIMS.claim(
    "a-list-that-grows-keeps-its-sockets",
    says="A list of tasks that only grows keeps the sockets of those that failed",
    how="100 handlers fail, whose tasks stay in a list, or leave a registry. The open sockets of "
    "the process are counted.",
    threshold="in a list: 100 are open; in a registry that they leave: none",
    read_on="docs/tutorial: S13",
)
def _kept() -> Iterable[Finding]:
    if sys.platform != "linux":
        raise NotMeasured("open sockets are counted in /proc")
    lines = [line.split() for line in _said_by(_KEPT)]
    found = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    for keep, subject, wanted in (
        ("True", "a list that only grows", 100),
        ("False", "a registry that they leave", 0),
    ):
        count = found.get(keep, -1)
        yield Finding.judge(subject, f"{count} sockets open", count == wanted, count)


@CLAIMS.claim(
    "large-receives-are-mapped-each-time",
    says="asyncio asks for 256 KiB at each receive, so malloc maps and unmaps memory each time, "
    "until the first client that leaves has taught it better",
    how="An asyncio Protocol server is loaded with 50 × 64 B for 1 s: first as it was started, "
    "and then after one client has connected, sent a message and left.",
    threshold="at least 1.2 times as fast after the first has left",
    read_on="mallopt(3), M_MMAP_THRESHOLD; docs/performance.md",
)
def _mapped() -> Iterable[Finding]:
    servers = {server.name: server for server in all_servers(None)}
    rates = []
    for taught in (False, True):
        with running(servers["asyncio Protocol"]) as (pid, port):
            address = Address("127.0.0.1", port)
            if taught:
                load(Plan(address, connections=1, messages=1, warmup=0.0), server=[])
            # A warm-up would begin with a client that leaves.
            plan = Plan(address, connections=50, duration=1.0, warmup=0.0)
            rates.append(load(plan, server=[pid]).rate)
    before, after = rates
    yield Finding.judge("as started", f"{before:,.0f} messages/s", after >= 1.2 * before, before)
    figure = f"{after:,.0f} messages/s: {after / before:.2f} times as many"
    yield Finding.judge("after one has left", figure, after >= 1.2 * before, after)
