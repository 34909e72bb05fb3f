"""Claims about I/O models: which client waits for which, and what waiting costs."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from anysock.bench.processes import cpu_of
from anysock.bench.servers import all_servers, our_server, running
from anysock.clients.percentiles import bears
from anysock.engines import DEFAULT, EngineEntry
from anysock.lab.claims import Claims, Finding, NotMeasured
from anysock.lab.stage import (
    PATIENCE,
    SPAN,
    Running,
    ask,
    concurrent,
    on_each_engine,
    proc,
    receive,
    serving,
    status,
)
from anysock.loop.kernel import Kernel
from anysock.loop.pollers import default_poller
from anysock.loop.tasks import suspend
from anysock.loop.waits import Sleep

CLAIMS = Claims()

_SILENT = 10


def _cpu_share(pid: int) -> float:
    """The share of a core that a process uses in `SPAN`."""
    before = cpu_of([pid])
    time.sleep(SPAN)
    after = cpu_of([pid])
    if before is None or after is None:
        raise NotMeasured("there is no /proc/PID/schedstat")
    return (after - before).total / SPAN


@contextlib.contextmanager
def _clients(server: Running, count: int) -> Iterator[list[socket.socket]]:
    """`count` clients, each of which has been answered once."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(count)]
        for client in clients:
            ask(client)
        yield clients


@CLAIMS.claim(
    "a-silent-client-blocks-the-next",
    says="With blocking sockets and one thread, a silent first client blocks the second",
    how="A first client connects and sends nothing; a second sends, and waits 0.5 s for the echo. "
    "Then the first leaves.",
    threshold="blocking: no answer in 0.5 s, and one once the first has left; all others: an "
    "answer",
    read_on="engines/blocking/engine.py; docs/tutorial: S4",
)
@on_each_engine()
def _second_client(engine: EngineEntry) -> Finding:
    with serving(engine) as server, server.connect() as first, server.connect() as second:
        second.settimeout(0.5)
        try:
            took: float | None = ask(second)
        except TimeoutError:
            took = None
        if took is not None:
            figure, holds = f"answered after {took * 1e3:.2f} ms", engine.concurrent
        else:
            first.close()
            second.settimeout(PATIENCE)
            later = receive(second, 6)
            figure = "no answer in 500 ms; answered once the first had left"
            holds = not engine.concurrent and later == b"hello\n"
    return Finding.judge(engine.name, figure, holds, took)


@CLAIMS.claim(
    "polling-burns-a-core",
    says="Polling burns a core, and every other way to wait costs nothing",
    how=f"{_SILENT} silent clients (one for blocking); the CPU time of the server over {SPAN:g} "
    "s, from /proc/PID/schedstat.",
    threshold="polling: over 50 % of a core; all others: under 2 %",
    read_on="engines/polling.py; docs/tutorial: S7",
)
@on_each_engine()
def _idle(engine: EngineEntry) -> Finding:
    count = _SILENT if engine.concurrent else 1
    with serving(engine) as server, _clients(server, count):
        share = _cpu_share(server.pid)
    holds = share < 0.02 if engine.sleeps else share > 0.5
    return Finding.judge(engine.name, f"{share:.2%} of a core", holds, share)


@CLAIMS.claim(
    "a-selector-sleeps-in-the-kernel",
    says="A server on a selector sleeps in the kernel until something happens",
    how=f"{SPAN:g} s without data from clients: the state of the process, where in the kernel it "
    "waits (/proc/PID/wchan), and the number of its voluntary context switches.",
    threshold="selector: state S, at most 5 switches; polling: state R, or more switches",
    read_on="proc(5); engines/selector.py; docs/tutorial: S8",
)
@on_each_engine(lambda engine: engine.has_our_loop)
def _sleeps(engine: EngineEntry) -> Finding:
    with serving(engine) as server, _clients(server, _SILENT):
        before = int(status(server.pid, "voluntary_ctxt_switches"))
        time.sleep(SPAN)
        switches = int(status(server.pid, "voluntary_ctxt_switches")) - before
        state = status(server.pid, "State")[0]
        try:
            channel = proc(server.pid, "wchan").strip("\0\n")
        except NotMeasured:
            channel = ""
    where = f" in {channel}" if channel not in ("", "0") else ""
    asleep = state == "S" and switches <= 5
    figure = f"state {state}{where}, {switches} switches in {SPAN:g} s"
    return Finding.judge(engine.name, figure, asleep == engine.sleeps, switches)


@CLAIMS.claim(
    "one-listener-is-enough",
    says="One listener is enough: it only takes clients from the queue",
    how="1,000 clients connect at once, from one thread that waits for none of them, and each "
    "sends a line.",
    threshold="all 1,000 are answered within 10 s",
    read_on="docs/tutorial: S11",
)
@on_each_engine(concurrent)
def _listener(engine: EngineEntry) -> Finding:
    count = 1000
    with (
        serving(engine, "echo", "--backlog", "4096") as server,
        contextlib.ExitStack() as stack,
    ):
        begun = time.monotonic()
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", server.port))
            clients.append(client)
        answered = 0
        for client in clients:
            client.settimeout(PATIENCE)
            client.sendall(b"hello\n")
        for client in clients:
            answered += receive(client, 6) == b"hello\n"
        took = time.monotonic() - begun
    figure = f"{answered:,} answered within {took:.2f} s"
    return Finding.judge(engine.name, figure, answered == count and took < PATIENCE, took)


@CLAIMS.claim(
    "a-failing-client-hurts-nobody",
    says="A handler that fails hurts nobody but its client",
    how="100 clients make their handlers raise, while a bystander sends 100 lines; its longest "
    "wait.",
    threshold="every failing client sees the end of its stream; the bystander waits at most 250 ms",
    read_on="server/session.py; docs/tutorial: S12",
)
@on_each_engine(concurrent)
def _failing(engine: EngineEntry) -> Finding:
    with (
        serving(engine, "lines", "--fail-on", "boom") as server,
        server.connect() as bystander,
    ):
        ended, waits = 0, []
        for _ in range(100):
            with server.connect() as client:
                client.sendall(b"boom\n")
                waits.append(ask(bystander))
                ended += receive(client, 1) == b""
    longest = max(waits)
    figure = f"{ended} of 100 saw the end; the bystander waited {longest * 1e3:.1f} ms at most"
    return Finding.judge(engine.name, figure, ended == 100 and longest < 0.25, longest)


def _bystander(port: int, flooders: int, seconds: float) -> list[float]:
    """How long a bystander's echoes take beside clients that send as fast as they can."""
    stopped = threading.Event()
    block = bytes(1 << 20)

    def flood(client: socket.socket) -> None:
        receiver = threading.Thread(target=_swallow, args=(client,))
        receiver.start()
        with contextlib.suppress(OSError):
            while not stopped.is_set():
                client.sendall(block)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        receiver.join()

    address = ("127.0.0.1", port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(flooders)]
        bystander = stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
        threads = [threading.Thread(target=flood, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        waits = []
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                waits.append(ask(bystander))
        except TimeoutError:
            waits.append(PATIENCE)  # or more: it gave up
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
    return waits


def _swallow(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1 << 18):
            pass


@CLAIMS.claim(
    "without-fairness-a-flooder-starves-the-others",
    says="Where data is always ready, a loop that never yields starves all others",
    how="Two clients send as fast as they can, while a bystander sends lines for 2 s: to a plain "
    "asyncio server on sock_recv and sock_sendall, which return at once when they need not wait, "
    "and to our selector engine, whose connections have a budget.",
    threshold="the longest wait: plain over 3 times ours; ours under 100 ms",
    read_on="docs/promises.md: fairness; engines/nonblocking/streams.py: _may_go_on",
)
def _fairness() -> Iterable[Finding]:
    servers = {server.name: server for server in all_servers(None)}
    plain, ours = "asyncio sock_*", our_server(DEFAULT).name
    waits = {}
    for name in (plain, ours):
        with running(servers[name]) as (_, port):
            waits[name] = _bystander(port, 2, 2.0)
    longest = {name: max(found) for name, found in waits.items()}
    for name, holds in (
        (plain, longest[plain] > 3 * longest[ours]),
        (ours, longest[ours] < 0.1),
    ):
        figure = f"the bystander waited {longest[name] * 1e3:.1f} ms at most"
        if bears(len(waits[name]), 50):
            figure += f", {statistics.median(waits[name]) * 1e3:.2f} ms in the middle"
        yield Finding.judge(name, figure, holds, longest[name])


class _Recording:
    """The poller of the platform, which records how long it may sleep."""

    def __init__(self) -> None:
        self._poller = default_poller()
        self.register = self._poller.register
        self.modify = self._poller.modify
        self.unregister = self._poller.unregister
        self.close = self._poller.close
        self.timeouts: list[float] = []

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        self.timeouts.append(timeout or 0.0)
        return self._poller.poll(timeout, maxevents)


@CLAIMS.claim(
    "sleep-decides-the-timeout",
    says="A sleeping task decides how long the loop's selector may sleep",
    how="A task sleeps for 0.25 s under our loop, whose poller records the timeouts that it is "
    "given; then two tasks sleep, for 0.05 and 0.25 s.",
    threshold="the first timeout is the shortest sleep, less at most 5 ms",
    read_on="loop/kernel.py: calculate_timeout; docs/tutorial: S9",
)
def _sleep_timeout() -> Iterable[Finding]:
    for sleeps in ((0.25,), (0.05, 0.25)):
        poller = _Recording()
        kernel = Kernel(poller)

        async def sleep(seconds: float, kernel: Kernel = kernel) -> None:
            await suspend(Sleep(kernel, seconds))

        async def main(sleeps: tuple[float, ...] = sleeps, kernel: Kernel = kernel) -> None:
            tasks = [kernel.spawn(sleep(seconds)) for seconds in sleeps]
            for task in tasks:
                await task.join()

        kernel.run(main())
        slept = [timeout for timeout in poller.timeouts if timeout > 0]
        first = slept[0] if slept else 0.0
        holds = min(sleeps) - 0.005 <= first <= min(sleeps)
        subject = "sleeps of " + " and ".join(f"{seconds:g} s" for seconds in sleeps)
        yield Finding.judge(subject, f"first timeout: {first:.4f} s", holds, first)


_HANDLER = """
    import time

    async def handle(connection):
        async for line in connection.lines():
            if line.strip() == b"block":
                time.sleep(0.3)  # what a slow computation does, or a call that blocks
            await connection.send_all(line)
"""


@CLAIMS.claim(
    "a-blocked-step-blocks-everybody",
    says="Under an event loop, a step that blocks blocks everybody; under threads, only its client",
    how="A handler blocks for 0.3 s when its client asks for it, while a bystander sends lines; "
    "the bystander's longest wait.",
    threshold="threads: under 150 ms; all others: at least 150 ms",
    read_on="anysock serve --slow-step; loop/watchdog.py",
)
@on_each_engine(concurrent)
def _blocked(engine: EngineEntry) -> Finding:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "blocking_step.py").write_text(textwrap.dedent(_HANDLER))
        server = stack.enter_context(serving(engine, "blocking_step:handle", folder=folder))
        client, bystander = (stack.enter_context(server.connect()) for _ in range(2))
        ask(bystander)
        client.sendall(b"block\n")
        waits = []
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            waits.append(ask(bystander))
        receive(client, 6)
    longest = max(waits)
    holds = longest < 0.15 if engine.thread_each else longest >= 0.15
    return Finding.judge(engine.name, f"{longest * 1e3:.0f} ms at most", holds, longest)


@CLAIMS.claim(
    "drain-returns-all-bytes-in-flight",
    says="After SIGTERM, the server still sends back all data in flight",
    how="7 MB are sent, and the server gets SIGTERM when the first of them are back.",
    threshold="all 7,000,000 bytes come back; exit code 0",
    read_on="README: Drain; docs/promises.md",
)
@on_each_engine()
def _drain(engine: EngineEntry) -> Finding:
    data = os.urandom(7_000_000)
    with serving(engine) as server, server.connect() as client:
        sender = threading.Thread(target=_send_all_and_end, args=(client, data))
        sender.start()
        received = bytearray(client.recv(65536))
        server.process.terminate()
        begun = time.monotonic()
        while more := client.recv(1 << 18):
            received += more
        sender.join()
        code = server.process.wait(PATIENCE * 2)
        took = time.monotonic() - begun
    back = f"{len(received):,} bytes" + ("" if received == data else ", not all as sent")
    return Finding.judge(
        engine.name,
        f"{back}; exit code {code} after {took:.2f} s",
        received == data and code == 0,
        len(received),
    )


def _send_all_and_end(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the answer shows what is missing
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
