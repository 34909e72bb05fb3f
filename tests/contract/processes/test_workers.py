"""--workers: several processes on one listening socket, and who looks after them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from anysock.workers.figures import ASK_SECONDS
from tests import prepared
from tests.harness import (
    PATIENCE,
    STRICT,
    ServerProcess,
    assert_a_drain_loses_nothing,
    free_port,
    receive_all,
    receive_exactly,
    wait_until,
)


def workers_of(server: ServerProcess) -> list[int]:
    """The living workers of a supervisor."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == server.pid and fields[0] != "Z":
                pids.append(int(stat.parent.name))
    return sorted(pids)


def start(start_server, *options: str, workers: int = 2, **more) -> ServerProcess:
    server: ServerProcess = start_server("echo", "--workers", str(workers), *options, **more)
    server.wait_for("all workers together")
    # The process that is looked at is the supervisor, whatever the engine of its workers.
    server.base_threads = server.threads()
    return server


def served(client: socket.socket, data: bytes = b"hello") -> bool:
    client.sendall(data)
    return receive_exactly(client, len(data)) == data


def test_every_engine_serves_and_drains(engine, start_server):
    server = start(start_server, engine=engine)
    assert len(workers_of(server)) == 2
    for _ in range(4):
        assert server.ask(b"hello" * 1000) == b"hello" * 1000
    with server.connect() as quiet:
        assert served(quiet)
        server.signal()
        assert receive_all(quiet) == b""
    assert server.wait() == 0
    server.wait_for(r"drained in \d")


def test_each_blocking_worker_serves_a_client(start_server):
    """Several blocking processes: the oldest server of all, that of inetd and of Apache."""
    server = start(start_server, engine="blocking")
    with server.connect() as first, server.connect() as second, server.connect() as third:
        assert served(first)
        assert served(second)
        third.sendall(b"x")
        first.close()
        assert receive_exactly(third, 1) == b"x"


def test_the_limit_is_one_exact_number_for_all(start_server):
    server = start(start_server, "--max-connections", "3")
    server.expected_errors = ["further clients wait"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        assert all(served(client) for client in clients)
        waiting = stack.enter_context(server.connect(timeout=0.3))
        waiting.sendall(b"let me in")
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        waiting.settimeout(15)
        clients.pop().close()
        assert receive_exactly(waiting, 9) == b"let me in"


def test_the_slots_of_a_killed_worker_are_free_again(start_server):
    server = start(start_server, "--max-connections", "2")
    server.expected_errors = ["was killed by SIGKILL", "further clients wait"]
    with server.connect() as one, server.connect() as other:
        assert served(one)
        assert served(other)
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
        server.wait_for("was killed by SIGKILL", times=2)
        wait_until(lambda: _is_gone(one) and _is_gone(other), "both are lost")
    with server.connect() as one, server.connect() as other, server.connect() as third:
        assert served(one)
        assert served(other)
        third.sendall(b"x")
        one.close()
        assert receive_exactly(third, 1) == b"x"


def test_a_killed_worker_loses_its_own_clients_alone(start_server):
    server = start(start_server)
    server.expected_errors = ["was killed by SIGKILL"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        assert all(served(client) for client in clients)
        victim, survivor = workers_of(server)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(f"worker {victim} was killed by SIGKILL: \\d+ connections are lost")
        lost = [client for client in clients if _is_gone(client)]
        told = int(server.wait_for(r"SIGKILL: (\d+) connections")[1])
        assert len(lost) == told
        assert all(served(client) for client in clients if client not in lost)
        wait_until(lambda: len(workers_of(server)) == 2, "another worker is started")
        assert survivor in workers_of(server)
        assert server.ask(b"after") == b"after"


def test_a_worker_that_can_not_be_started_takes_nobody_along(start_server):
    """There is no descriptor for it; fork(2) without memory or processes fails the same way."""
    server = start(start_server)
    server.expected_errors = ["was killed by SIGKILL", "can't start a worker: Too many open files"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(10)]
        assert all(served(client) for client in clients)
        server.limit_fds(max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd")) + 1)
        victim, survivor = workers_of(server)
        os.kill(victim, signal.SIGKILL)
        server.wait_for("can't start a worker")
        left = [client for client in clients if not _is_gone(client)]
        assert all(served(client) for client in left)
        assert server.ask(b"a new one") == b"a new one"
        # It can't be replaced, either, and goes on.
        server.signal(signal.SIGHUP)
        server.wait_for("replacing 1 workers")
        assert server.ask(b"a new one") == b"a new one"
        assert workers_of(server) == [survivor]
        server.limit_fds(1000)
        server.wait_for(r"is started, after \d+ tries that failed")
        wait_until(
            lambda: len(workers_of(server)) == 2 and survivor not in workers_of(server)
            if not left else len(workers_of(server)) == 3,
            "two new ones; the old one, while it has clients",
        )  # fmt: skip
        assert all(served(client) for client in left)
    assert len(server.matching("can't start a worker")) == 1


def test_a_signal_without_a_name_ends_one_worker(start_server):
    server = start(start_server)
    server.expected_errors = ["was killed by signal"]
    os.kill(workers_of(server)[0], signal.SIGRTMIN + 1)
    server.wait_for(f"was killed by signal {signal.SIGRTMIN + 1}")
    wait_until(lambda: len(workers_of(server)) == 2, "another is started")
    assert server.ask(b"after") == b"after"


def _is_gone(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.settimeout(15)


def test_sighup_replaces_all_and_nobody_is_refused_or_dropped(start_server):
    server = start(start_server)
    before = workers_of(server)
    over = threading.Event()
    failures: list[BaseException] = []
    rounds = [0]

    def keep_talking() -> None:
        try:
            with server.connect() as client:
                while not over.is_set():
                    assert served(client)
                    rounds[0] += 1
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    def keep_connecting() -> None:
        try:
            while not over.is_set():
                with server.connect() as client:
                    assert served(client)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=keep_talking) for _ in range(4)]
    threads += [threading.Thread(target=keep_connecting) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: rounds[0] > 100, "they talk")
    with server.connect() as quiet:
        assert served(quiet)
        server.signal(signal.SIGHUP)
        # Two interpreters start meanwhile, beside clients that leave them no core.
        server.wait_for("takes the place of", times=2, seconds=4 * PATIENCE)
        at_that_time = rounds[0]
        wait_until(lambda: rounds[0] > at_that_time + 100, "they still talk")
        assert served(quiet), "the old worker has let a client go that had said nothing for a while"
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    wait_until(lambda: len(workers_of(server)) == 2, "the old ones are gone")
    assert not set(before) & set(workers_of(server))


def test_one_more_and_one_less(start_server):
    server = start(start_server)
    server.signal(signal.SIGTTIN)
    wait_until(lambda: len(workers_of(server)) == 3, "one more")
    server.wait_for("one worker more: 3")
    with server.connect() as client:
        assert served(client)
        server.signal(signal.SIGTTOU)
        server.wait_for("one worker less: 2")
        assert served(client), "who was served stays served"
    wait_until(lambda: len(workers_of(server)) == 2, "one less")
    server.signal(signal.SIGTTOU)
    server.wait_for("one worker less: 1")
    server.signal(signal.SIGTTOU)  # the last one stays
    wait_until(lambda: len(workers_of(server)) == 1, "one is left")
    assert server.ask(b"x") == b"x"


def test_what_is_in_flight_comes_back(start_server):
    server = start(start_server, "--drain-timeout", "30s")
    assert_a_drain_loses_nothing(server)


def test_who_is_aborted_makes_exit_code_1(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import anysock\n"
        "async def stubborn(connection):\n"
        "    await connection.send_all(b'x')\n"
        "    await anysock.sleep(60)\n"
    )
    server = start_server(
        *("mine:stubborn", "--workers", "2", "--drain-timeout", "300ms"),
        cwd=tmp_path,
        expected_code=1,
    )
    server.expected_errors = ["aborted", "drained in"]
    server.wait_for("all workers together")
    with server.connect() as client:
        receive_exactly(client, 1)
        server.signal()
        assert server.wait() == 1
    server.wait_for("1 connections were aborted")


def test_a_second_signal_exits_at_once(start_server):
    server = start_server("chargen", "--workers", "2", expected_code=1)
    server.wait_for("all workers together")
    server.expected_errors = ["a second signal"]
    pids = workers_of(server)
    with server.connect() as client:
        receive_exactly(client, 1000)
        server.signal()
        server.wait_for("draining: 1 connections left")
        server.signal()
        assert server.wait() == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_end_when_the_supervisor_is_killed(start_server):
    server = start(start_server, expected_code=-signal.SIGKILL)
    pids = workers_of(server)
    with server.connect() as client:
        assert served(client)
        server.signal(signal.SIGKILL)
        assert receive_all(client) == b"", "the client sees the end of its stream"
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "they have ended")


# -- the admin endpoint ----------------------------------------------------------------------------


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(port: int, name: str) -> float:
    for line in get(port, "/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no {name}")


def test_figures_are_of_all_workers(engine, start_server):
    port = free_port()
    server = start(start_server, "--admin", f":{port}", engine=engine)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(2)]
        assert all(served(client) for client in clients)
        # On a machine that is busy, a worker may not answer in its time.
        wait_until(lambda: metric(port, "anysock_workers") == 2, "both answer")
        wait_until(lambda: metric(port, "anysock_connections_open") == 2, "both are counted")
        peers = {f"127.0.0.1:{client.getsockname()[1]}" for client in clients}
        shown: list[dict[str, Any]] = []

        def all_are_shown() -> bool:
            shown[:] = json.loads(get(port, "/connections")[1])["connections"]
            return {each["peer"] for each in shown} == peers

        wait_until(all_are_shown, "both are shown")
        assert {each["worker"] for each in shown} <= set(workers_of(server))
    wait_until(lambda: metric(port, "anysock_connections_open") == 0, "they have left")
    assert metric(port, "anysock_received_bytes_total") == 10


def test_counters_never_go_back_when_workers_end(start_server):
    port = free_port()
    server = start(start_server, "--admin", f":{port}")
    server.expected_errors = ["was killed by SIGKILL"]
    for _ in range(10):
        assert server.ask(b"hello") == b"hello"
    wait_until(lambda: metric(port, "anysock_received_bytes_total") == 50, "all is counted")
    server.signal(signal.SIGHUP)
    server.wait_for("takes the place of", times=2)
    wait_until(lambda: len(workers_of(server)) == 2, "the old ones are gone")
    assert metric(port, "anysock_received_bytes_total") == 50
    os.kill(workers_of(server)[0], signal.SIGKILL)
    server.wait_for("was killed by SIGKILL")
    assert metric(port, "anysock_received_bytes_total") == 50
    wait_until(lambda: metric(port, "anysock_workers") == 2, "another is started")


def test_a_worker_that_is_stopped_holds_up_nobody_else(start_server):
    port = free_port()
    server = start(start_server, "--max-connections", "2", "--admin", f":{port}")
    server.expected_errors = ["further clients wait"]
    for _ in range(20):
        assert server.ask(b"hello") == b"hello"
    wait_until(lambda: metric(port, "anysock_received_bytes_total") == 100, "all is counted")
    stopped = workers_of(server)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        # Each that leaves makes room, of which both workers are told.
        with server.connect() as another:
            assert served(another)
            for _ in range(500):
                assert server.ask(b"hello") == b"hello"
        # A probe gives up after a second; and not each of them waits for the one that is stopped.
        assert ASK_SECONDS <= 0.5
        assert get(port, "/healthz")[0] == 200
        times = []
        for _ in range(10):
            begun = time.monotonic()
            assert get(port, "/healthz")[0] == 200
            times.append(time.monotonic() - begun)
        assert statistics.median(times) < ASK_SECONDS
        # What the stopped one has told last still counts.
        assert metric(port, "anysock_received_bytes_total") >= 100 + 500 * 5
        assert metric(port, "anysock_workers") == 1
        server.signal()
        server.wait_for("draining: 0 connections left")
    finally:
        os.kill(stopped, signal.SIGCONT)
    # Its queue was full when it was told to end.
    assert server.wait() == 0
    assert not server.matching("does not end")


def test_one_that_is_stopped_while_it_counts_holds_up_nobody_else(start_server, tmp_path):
    """For the one number of connections there is a lock. Nobody waits for its holder."""
    (tmp_path / "mine.py").write_text(
        "import fcntl, os, signal\n"
        "from anysock.handlers.echo import echo\n"
        "lock = fcntl.lockf\n"
        "def lockf(fd, how, *more):\n"
        "    lock(fd, how, *more)\n"
        "    if how & fcntl.LOCK_EX and os.path.exists('stop'):\n"
        "        os.rename('stop', str(os.getpid()))\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "fcntl.lockf = lockf\n"
    )
    port = free_port()
    options = ("--workers", "3", "--max-connections", "50", "--admin", f":{port}")
    server = start_server("mine:echo", *options, cwd=tmp_path)
    server.wait_for("all workers together")
    server.expected_errors = ["was killed by SIGKILL"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(9)]
        assert all(served(client) for client in clients)
        (tmp_path / "stop").touch()
        with server.connect():
            pid = wait_until(
                lambda: next((int(path.name) for path in tmp_path.glob("[0-9]*")), 0),
                "one is stopped",
            )
            try:
                for _ in range(50):
                    assert server.ask(b"hello") == b"hello"
                # The supervisor, too, goes on: it clears the slots of one that dies.
                victim = next(each for each in workers_of(server) if each != pid)
                os.kill(victim, signal.SIGKILL)
                server.wait_for(f"worker {victim} was killed by SIGKILL")
                wait_until(lambda: len(workers_of(server)) == 3, "another is started")
                assert server.ask(b"hello") == b"hello"
                assert get(port, "/readyz") == (200, "ready\n")
                wait_until(lambda: metric(port, "anysock_workers") == 2, "two answer")
            finally:
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: metric(port, "anysock_workers") == 3, "it answers again")
    assert server.ask(b"hello") == b"hello"
    server.signal()
    assert server.wait() == 0


def test_accepting_is_paused_and_resumed_for_all(start_server):
    port = free_port()
    server = start(start_server, "--admin", f":{port}")
    assert get(port, "/readyz") == (200, "ready\n")
    assert get(port, "/pause", "POST")[0] == 200
    assert get(port, "/readyz") == (503, "accepting is paused\n")
    clients = [server.connect(timeout=0.3) for _ in range(5)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
            client.sendall(b"x")
        with pytest.raises(TimeoutError):
            clients[-1].recv(1)
        assert get(port, "/resume", "POST")[0] == 200
        for client in clients:
            client.settimeout(15)
            assert receive_exactly(client, 1) == b"x"
    assert len(server.matching("accepting is paused")) == 1


def test_a_probe_is_answered_before_any_worker_is_ready(tmp_path):
    """And while all of them are dead, or stopped."""
    (tmp_path / "mine.py").write_text(
        "import os, time\n"
        "from anysock.handlers.echo import echo\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
    )
    port = free_port()
    command = ("serve", "mine:echo", "-b", "127.0.0.1:0", "--workers", "2", "--admin", f":{port}")
    server = prepared.Popen(
        [sys.executable, "-m", "anysock", *command],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        assert "admin endpoint" in server.stderr.readline()
        assert get(port, "/healthz") == (200, "alive\n")
        assert get(port, "/readyz") == (503, "no worker is ready\n")
        assert metric(port, "anysock_workers") == metric(port, "anysock_connections_open") == 0
        assert json.loads(get(port, "/connections")[1])["open"] == 0
        (tmp_path / "go").touch()
        wait_until(lambda: metric(port, "anysock_workers") == 2, "they are ready")
        server.terminate()
        assert server.wait(15) == 0
    finally:
        server.kill()
        server.communicate()


def test_a_worker_whose_answer_fails_still_does_what_it_is_told(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from anysock.admin.figures import ServerFigures\n"
        "from anysock.handlers.echo import echo\n"
        "ServerFigures.connections = lambda self, most: 1 / 0\n"
    )
    port = free_port()
    options = ("--workers", "2", "--admin", f":{port}")
    server = start_server("mine:echo", *options, cwd=tmp_path)
    server.wait_for("all workers together")
    server.base_threads = server.threads()
    server.expected_errors = ["what the supervisor said failed: connections", "Traceback"]
    server.expected_errors += ["ZeroDivisionError"]
    with server.connect() as client:
        assert served(client)
        assert json.loads(get(port, "/connections")[1])["connections"] == []
        server.wait_for("what the supervisor said failed", times=2)
        assert get(port, "/pause", "POST")[0] == 200
        assert get(port, "/resume", "POST")[0] == 200
        server.signal()
        assert receive_all(client) == b""
    assert server.wait() == 0
    assert not server.matching("does not end")


def test_it_answers_while_all_workers_are_blocked(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "async def blocks(connection):\n"
        "    await connection.recv()\n"
        "    time.sleep(2)\n"
    )
    port = free_port()
    server = start_server(
        *("mine:blocks", "--workers", "2", "--admin", f":{port}", "--slow-step", "0"), cwd=tmp_path
    )
    server.wait_for("all workers together")
    with server.connect() as one, server.connect() as other:
        for client in (one, other):
            client.sendall(b"x")
        wait_until(lambda: metric(port, "anysock_loop_lag_seconds") > 0.3, "the lag is seen")
        assert get(port, "/healthz")[0] == 200


def run_to_its_end(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return prepared.run(
        [sys.executable, *STRICT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("handler", "code", "says"),
    [
        ("nothing", 2, "unknown handler 'nothing'"),
        ("mine:dies", 1, "workers die at once, 5 times in a row (the last ended with code 3)"),
    ],
)
def test_workers_that_can_not_begin_are_given_up(tmp_path, handler, code, says):
    (tmp_path / "mine.py").write_text("import os\nos._exit(3)\n")
    done = run_to_its_end(
        *("-m", "anysock", "serve", handler, "-b", f"127.0.0.1:{free_port()}", "--workers", "2"),
        cwd=tmp_path,
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_program_may_serve_a_handler_of_its_own(tmp_path):
    port = free_port()
    (tmp_path / "program.py").write_text(
        "import anysock\n"
        "async def shout(connection):\n"
        "    async for line in connection.lines():\n"
        "        await connection.send_all(line.upper())\n"
        "if __name__ == '__main__':\n"
        f"    anysock.serve(shout, bind='127.0.0.1:{port}', workers=2)\n"
    )
    process = prepared.Popen(
        [sys.executable, *STRICT, "program.py"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        while "all workers" not in (line := process.stderr.readline()):
            assert line, "it has ended"
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            client.sendall(b"hello\n")
            assert receive_exactly(client, 6) == b"HELLO\n"
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_handler_that_can_not_be_imported_is_told(tmp_path):
    (tmp_path / "program.py").write_text(
        "import anysock\n"
        "if __name__ == '__main__':\n"
        "    async def local(connection): ...\n"
        "    anysock.serve(lambda connection: local(connection), bind='127.0.0.1:0', workers=2)\n"
    )
    done = run_to_its_end("program.py", cwd=tmp_path)
    assert "the handler must be a function of a module" in done.stderr.splitlines()[-1]
