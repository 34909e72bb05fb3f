"""Contract 7: accepting survives everything that accept(2) can say."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence

import pytest

from anysock.engines.blocking.engine import BlockingEngine
from anysock.errors import ListenerClosed
from anysock.server.acceptor import ACCEPT_BATCH
from anysock.server.server import Server
from anysock.telemetry.events import CloseReason
from anysock.telemetry.logs.events import why_not_accepted
from tests.harness import receive_exactly
from tests.told import Told


def test_exhausted_descriptors_make_the_client_wait_and_no_one_else(engine, start_server):
    server = start_server(engine=engine, python_flags=())
    server.expected_errors.append("can't accept a connection: Too many open files")
    with server.connect() as first:
        first.sendall(b"first")
        receive_exactly(first, 5)
        if engine == "blocking":
            first.close()  # it accepts the next only when this one has left
            server.wait_until_idle()
        server.limit_fds(server.fds())
        with server.connect() as waiting:
            waiting.sendall(b"waiting")
            server.wait_for("can't accept a connection: Too many open files")
            before = server.cpu_seconds()
            time.sleep(1.5)  # the span in which the log is counted and the CPU measured
            assert len(server.matching("can't accept")) <= 4, "told more than once a second"
            if engine != "polling":
                assert server.cpu_seconds() - before < 0.15, "it spins"
            if engine != "blocking":
                first.sendall(b"still")
                assert receive_exactly(first, 5) == b"still"
            server.limit_fds(1024)
            assert receive_exactly(waiting, 7) == b"waiting"


@pytest.mark.parametrize("engine", ["threads", "selector", "uvloop", "trio"])
def test_clients_beyond_the_limit_are_served_when_others_leave(engine, start_server):
    server = start_server(engine=engine, python_flags=())
    server.expected_errors.append("can't accept a connection: Too many open files")
    server.limit_fds(server.base_fds + 10)
    clients = [server.connect() for _ in range(30)]
    for number, client in enumerate(clients):
        client.sendall(b"%02d" % number)
    server.wait_for("can't accept a connection: Too many open files")
    served = set()
    while clients:
        client = clients.pop(0)
        served.add(receive_exactly(client, 2))
        client.close()
    assert served == {b"%02d" % number for number in range(30)}
    server.limit_fds(1024)


def test_300_connects_at_once_are_all_accepted(concurrent_engine, start_server):
    server = start_server(engine=concurrent_engine)
    clients = [server.connect() for _ in range(300)]
    for client in clients:
        client.sendall(b"x")
    for client in clients:
        assert receive_exactly(client, 1) == b"x"
        client.close()


class ScriptedEngine(BlockingEngine):
    """An engine whose accept(2) says what the test has written down."""

    def __init__(self, script: Sequence[int | str]) -> None:
        super().__init__()
        self.script = list(script)
        self.slept: list[float] = []
        self.clock = 0.0

    async def accept(self, listener):
        said = self.script.pop(0) if self.script else "closed"
        if said == "closed":
            raise ListenerClosed
        if isinstance(said, int):
            raise OSError(said, os.strerror(said))
        ours, theirs = socket.socketpair()
        theirs.close()
        from anysock.engines.blocking.streams import BlockingStream

        return BlockingStream(self, ours, ("peer", 1))

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.clock += seconds

    @property
    def waited(self) -> list[float]:
        """For how long, without the turns of others, which are no wait."""
        return [seconds for seconds in self.slept if seconds]

    def now(self):
        return self.clock


def in_words(told: Told) -> list[str]:
    return [why_not_accepted(error) for error, _ in told.of("accept_failed")]


def accept_all(
    script: Sequence[int | str], kind: type[ScriptedEngine] = ScriptedEngine
) -> tuple[Server, ScriptedEngine, Told]:
    """Run the accept loop on a script, under no real network at all."""
    engine, told = kind(script), Told()
    server = Server("echo", bind="127.0.0.1:0", events=told)

    async def main() -> None:
        await server.start()
        await server.traffic._acceptors[0].run()
        if not server._life.phase.draining:
            await server.drain()

    engine.run(main())
    return server, engine, told


PASSING = [
    "ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN",
    "ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET",
]  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_error_is_retried_at_once(name):
    code = getattr(errno, name)
    server, engine, told = accept_all([code, "peer", code, code, "peer"])
    assert server.counters.accepted == 2
    assert server.counters.accept_errors == 3
    assert engine.waited == []
    assert told.of("accept_failed") == []


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_a_shortage_is_waited_out_and_told_once_a_second(name):
    code = getattr(errno, name)
    server, engine, told = accept_all([code] * 25 + ["peer"])
    assert server.counters.accepted == 1
    assert engine.waited == [0.1] * 25
    # Met ten times a second, told at 0, 1 and 2 s; and how often it was not told in between.
    left_out = [number for _, number in told.of("accept_failed")]
    assert left_out in ([0, 9, 9], [0, 10, 9], [0, 9, 10])
    # What is missing is named, and who knocks has lost nothing.
    missing = {"EMFILE": "ulimit -n", "ENFILE": "file-max"}.get(name, "memory")
    assert all("it waits" in each and missing in each for each in in_words(told))
    assert all(("ulimit -n" in each) == (name == "EMFILE") for each in in_words(told))


def test_a_broken_listener_stops_the_server_with_its_error():
    server, _, _ = accept_all([errno.EINVAL])
    assert isinstance(server._failure, OSError)
    assert server._failure.errno == errno.EINVAL
    assert server._life.phase.draining


def test_where_no_thread_can_be_started_the_peer_is_let_go_and_accepting_goes_on():
    class Crowded(ScriptedEngine):
        room = False

        def spawn(self, coro, name=None):
            if str(name).startswith("client") and not self.room:
                self.room = True
                coro.close()
                raise OSError(errno.ENOMEM, "can't start a thread for it")
            return super().spawn(coro, name)

    server, engine, told = accept_all(["peer", "peer"], Crowded)
    [(error, left_out)] = told.of("accept_failed")
    assert (error.errno, left_out) == (errno.ENOMEM, 0)
    [words] = in_words(told)
    assert "can't start a thread for it; it was reset" in words
    assert "threads or memory" in words
    assert "waits" not in words
    assert "ulimit -n" not in words
    assert engine.waited == [0.1]
    assert server.connections == []
    assert server.counters.accepted == 2
    assert server.counters.closed[CloseReason.ABORTED] == 1
    assert server.counters.closed[CloseReason.NO_DATA] == 1


def test_a_long_run_of_accepts_lets_the_others_have_their_turn():
    _, engine, _ = accept_all(["peer"] * 200)
    assert engine.slept.count(0) >= 200 // ACCEPT_BATCH
