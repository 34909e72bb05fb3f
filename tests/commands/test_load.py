"""``anysock load`` as a process, against servers that are right and servers that are not."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from anysock.bench.generator.models.model import CONNECTING_AT_ONCE
from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome, c_worker, load, python_worker
from anysock.bench.processes import Cpu, listeners_at
from anysock.bench.servers import c_tools
from anysock.errors import UsageError
from anysock.net.addresses import Address
from tests import bad_servers, prepared
from tests.bad_servers import bad_server
from tests.commands.running import refused
from tests.harness import ENGINES, PATIENCE, free_port, wait_until

LOAD = [sys.executable, "-m", "anysock", "load"]
SHORT = ("--duration", "200ms", "--warmup", "50ms")


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = prepared.run(
        [*LOAD, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", "-", code=code).stdout)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_answers_all_of_it(start_server, engine):
    server = start_server(engine=engine)
    connections = "1" if engine == "blocking" else "20"
    report = told(f":{server.port}", "-c", connections, *SHORT)
    assert report["messages"] > 0
    assert report["errors"] == {}
    assert report["unanswered"] == 0
    assert report["connections_opened"] == int(connections)
    assert report["echo"]["count"] == report["messages"]
    assert 0 < report["echo"]["min"] <= report["echo"]["p50"] <= report["echo"]["max"]
    assert report["loop"] == "closed"


@pytest.mark.parametrize(
    "more",
    [
        ["--depth", "16"],
        ["--size", "1"],
        ["--size", "300KiB", "-c", "3"],
        ["--size", "100KiB", "--depth", "3", "-c", "3"],
        ["--processes", "2"],
        ["--rate", "500"],
        ["--rate", "500", "--size", "200KiB", "-c", "2"],
        ["--churn", "3", "-c", "4"],
        ["--churn", "1", "--reset", "-c", "4"],
        ["--churn", "2", "--rate", "200", "-c", "4"],
    ],
)
def test_every_kind_of_load(start_server, more):
    report = told(f":{start_server().port}", "-c", "10", *more, *SHORT)
    assert report["messages"] > 0
    assert report["errors"] == {}
    assert report["unanswered"] == 0


def test_lines(start_server):
    server = start_server("lines")
    assert told(f":{server.port}", "--lines", "-c", "5", *SHORT)["errors"] == {}


def test_frames_are_checked_to_the_last_byte():
    def answer(client):
        """A frame for each, with a wrong byte at the end of the tenth."""
        file = client.makefile("rb")
        for number in itertools.count(1):
            if not (prefix := file.read(4)):
                return
            body = file.read(int.from_bytes(prefix, "big"))
            client.sendall(prefix + (body[:-1] + b"?" if number == 10 else body))

    with bad_server(answer) as port:
        whole = told(f":{port}", "--frames", "-c", "1", "--messages", "9")
        report = told(f":{port}", "--frames", "-c", "1", "--messages", "10", code=1)
    assert whole["messages"] == 9
    assert report["errors"] == {"corrupt": 1}


@pytest.mark.parametrize(
    "more",
    [[], ["--depth", "7"], ["--rate", "2000"], ["--churn", "3"], ["--processes", "2"]],
)
def test_so_many_messages_are_sent_and_no_more(more):
    seen: Counter[str] = Counter()

    def count(client):
        while data := client.recv(65536):
            seen["bytes"] += len(data)
            client.sendall(data)

    with bad_server(count) as port:
        report = told(f":{port}", "-c", "10", "--size", "50", "--messages", "123", *more)
    assert report["messages"] == 123
    assert seen["bytes"] == 123 * 50


def test_a_server_that_dies_ends_a_load_of_so_many_messages():
    """Without a duration, nothing else would."""
    served = threading.Event()

    def serve_one():
        client, _ = listener.accept()
        listener.close()
        with client:
            client.sendall(client.recv(65536))
        served.set()

    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    port = listener.getsockname()[1]
    server = threading.Thread(target=serve_one)
    server.start()
    report = told(f":{port}", "-c", "1", "--messages", "50", "--timeout", "500ms", code=1)
    server.join()
    assert served.is_set()
    assert report["messages"] <= 1
    assert report["errors"]["given up: no connection any more"] == 1
    assert report["errors"]["refused"] > 1


def test_churn_tells_connecting_and_the_first_byte_apart(start_server):
    report = told(f":{start_server().port}", "--churn", "4", "-c", "5", *SHORT)
    assert report["connections_opened"] >= report["messages"] // 4
    for kind in ("connect", "first_byte", "echo"):
        assert report[kind]["count"] > 0
    assert report["first_byte"]["count"] < report["echo"]["count"]


def test_a_schedule_is_kept(start_server):
    report = told(f":{start_server().port}", "-c", "5", "--rate", "400", "--duration", "1s")
    assert report["loop"] == "open"
    assert report["asked_rate"] == 400
    assert report["messages"] == 400
    assert report["late"]["count"] == 400


@pytest.mark.parametrize(
    ("more", "messages"),
    [
        (("--rate", "500"), 150),
        (("--rate", "1001", "--processes", "2"), 300),
        (("--rate", "100", "--churn", "2"), 30),
        (("--rate", "1"), 1),
        (("--depth", "8", "--size", "20KB"), None),
    ],
)
def test_so_many_are_sent_as_were_asked_and_no_connection_ends_with_a_reset(
    start_server, more, messages
):
    server = start_server("echo", "-v")
    # Its lines show all data: a busy machine does not read them as fast as they come.
    server.expected_errors.append("of the log could not be written, or not fast enough")
    options = ("-c", "5", "--duration", "300ms", "--warmup", "100ms")
    report = told(f":{server.port}", *options, *more)
    assert report["errors"] == {}
    assert report["unanswered"] == 0
    if messages is not None:
        assert report["messages"] == report["late"]["count"] == messages
    server.wait_until_idle()
    ended = re.findall(r"the connection from .* has ended: (.*)", server.log)
    assert len(ended) >= 5
    assert set(ended) <= {"done", "closed before its first byte"}


def test_a_stall_is_not_hidden_by_sending_less_meanwhile():
    """Coordinated omission: an open loop counts from when each message was due."""
    stall = threading.Event()

    def stall_once(client):
        received = 0
        while data := client.recv(65536):
            received += len(data)
            if received > 64 * 100 and not stall.is_set():
                stall.set()
                threading.Event().wait(0.5)  # the stall
            client.sendall(data)

    options = ("-c", "1", "--duration", "1s", "--warmup", "0")
    with bad_server(stall_once) as port:
        open_loop = told(f":{port}", "--rate", "400", *options)["echo"]
    assert stall.is_set()
    stall.clear()
    with bad_server(stall_once) as port:
        closed_loop = told(f":{port}", *options)["echo"]
    assert stall.is_set()
    # Of 400 messages, 200 were due while the server stalled: a quarter waited for over 0.25 s.
    assert open_loop["p90"] > 0.2
    assert closed_loop["p90"] < 0.2
    assert closed_loop["max"] > 0.4


@pytest.mark.parametrize(
    ("handle", "kind"),
    [
        (bad_servers.corrupt, "corrupt"),
        (bad_servers.twice, "more than was sent"),
        (bad_servers.half, "closed by the server"),
        (bad_servers.close_at_once, "closed by the server"),
        (bad_servers.reset_after_a_message, "reset"),
        (bad_servers.silent, "no answer in time"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize(
    "more",
    [[], ["--rate", "100"], ["--depth", "3", "--size", "100KiB"], ["--churn", "5"]],
)
def test_what_is_wrong_with_a_server_is_counted_by_its_kind(handle, kind, more):
    options = ("-c", "2", "--duration", "450ms", "--warmup", "0", "--timeout", "100ms")
    with bad_server(handle) as port:
        report = told(f":{port}", *options, *more, code=1)
    # A server that leaves what was sent unread resets the connection as it closes it.
    also = {"reset"} if kind == "closed by the server" else set()
    if handle is bad_servers.twice and more[:1] in (["--churn"], ["--depth"]):
        also = {"corrupt"}  # the end of one message again, where the next one is due
    assert report["errors"].get(kind) or set(report["errors"]) & also, report["errors"]
    assert report["unanswered"] > 0


def test_nobody_there_is_one_line():
    done = run(f":{free_port()}", code=1)
    [line] = done.stderr.splitlines()
    assert line.startswith("anysock: can't connect to tcp://127.0.0.1:")
    assert line.endswith("refused")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--processes", "3", "-c", "2"], "each needs one"),
        (["--rate", "10", "--depth", "2"], "closed loop"),
        (["--churn", "1", "--depth", "2"], "one message in flight"),
        (["--messages", "5", "-c", "10"], "each sends one"),
        (["--messages", "50", "--warmup", "1s"], "no --warmup"),
        (["--find-rate", "p99<1ms", "--rate", "5"], "chooses the rate"),
        (["--find-rate", "fast"], "such as p99<1ms"),
        (["--lines", "--size", "1"], "at least 2 bytes"),
        (["--frames", "--size", "3"], "at least 4 bytes, which hold its length"),
        (["--frames", "--lines"], "lines or frames"),
        (["--size", "0"], "at least one byte"),
        (["--duration", "soon"], "500ms"),
        (["--json", "/nowhere/report.json"], "no folder /nowhere"),
        (["--html", "/"], "it is a folder"),
        (["-c", "1_0"], "expected a whole number, not '1_0'"),
        (["-c", "٣"], "expected a whole number, not '٣'"),
        (["-c", "9" * 401], "expected a whole number, not '999"),
        (["-c", "2000", "--processes", "1025"], "expected at most 1024"),
        (["--rate", "nan"], "expected a number, not 'nan'"),
        (["--rate", "1e400"], "expected a number from 0.001"),
        (["--rate", "0"], "expected a number from 0.001"),
    ],
)
def test_bad_usage(arguments, says):
    assert says in refused("load", ":1", *arguments)


def test_ctrl_c_shows_what_was_measured(start_server):
    server = start_server()
    process = prepared.Popen(
        [*LOAD, f":{server.port}", "-c", "3", "--duration", "60s", "--warmup", "0", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server.wait_for("I got a connection", times=3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE)
    report = json.loads(out)
    assert report["interrupted"]
    assert "(interrupted)" in error
    assert "Traceback" not in error


def test_workers_end_with_whoever_started_them(start_server):
    server = start_server()
    with prepared.Popen(
        [*LOAD, f":{server.port}", "-c", "3", "--duration", "60s"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        server.wait_for("I got a connection", times=3)
        process.kill()
    server.wait_until_idle()


@pytest.fixture
def worker_that_opens():
    """A worker that opens connections without end, to where nobody listens."""
    plan = Plan(Address("127.0.0.1", free_port()), connections=10**12, warmup=0)
    with subprocess.Popen(
        python_worker(plan, 0), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        yield process
        process.kill()


def test_workers_end_with_whoever_started_them_while_they_open_connections(worker_that_opens):
    worker_that_opens.stdin.close()
    assert worker_that_opens.wait(PATIENCE) == 0
    assert worker_that_opens.stdout.read() == b""


def test_a_worker_that_opens_connections_is_interrupted(worker_that_opens):
    worker_that_opens.stdin.write(b".")
    said = json.loads(worker_that_opens.stdout.readline())
    assert said["ready"] == 0
    worker_that_opens.stdin.close()
    assert worker_that_opens.wait(PATIENCE) == 0


@pytest.mark.parametrize("count", [2**31, 2**63], ids=["int", "long"])
def test_more_connections_than_descriptors_are_one_line(count):
    done = run(":1", "-c", str(count), code=2)
    assert "are more than can be opened" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_while_they_connect(by):
    """To somebody whose backlog is full, that takes as long as may be."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(2):
            full = stack.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(("127.0.0.1", port))
        process = prepared.Popen(
            [*LOAD, f":{port}", "-c", "500", "--timeout", "5m", "--warmup", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            worker = Path("/proc", wait_until(children.read_text, "it has a worker").strip())
            wait_until(
                lambda: len(list((worker / "fd").iterdir())) > CONNECTING_AT_ONCE, "it connects"
            )
            process.send_signal(by)
            process.wait(PATIENCE)

            def ended() -> bool:
                with contextlib.suppress(FileNotFoundError):
                    return "State:\tZ" in (worker / "status").read_text()
                return True

            wait_until(ended, "the worker has ended, too")
        finally:
            process.kill()
            process.wait()


def test_the_report_in_files_and_on_the_terminal(start_server, tmp_path):
    json_file, html_file = tmp_path / "report.json", tmp_path / "report.html"
    files = ("--json", str(json_file), "--html", str(html_file))
    done = run(f":{start_server().port}", "-c", "3", *SHORT, *files)
    for word in ("closed", "p99.9", "echo", "connect", "server", "µs a message"):
        assert word in done.stdout
    assert json.loads(json_file.read_text())["messages"] > 0
    page = html_file.read_text()
    assert "<title>Anysock: Load report</title>" in page
    assert "http-equiv" not in page


def test_finding_a_rate(start_server):
    # A p99 of so short a step would take more messages a second than a busy machine may do.
    done = run(f":{start_server().port}", "-c", "4", "--find-rate", "p50<2s", *SHORT)
    assert "passed" in done.stdout
    assert "is the highest rate tried that keeps p50<2s" in done.stdout


def test_a_server_that_answers_nothing_says_nothing_of_a_bound():
    with bad_server(bad_servers.silent) as port:
        done = run(
            f":{port}", "-c", "1", "--find-rate", "p99<1us", "--timeout", "300ms", *SHORT, code=1
        )  # fmt: skip
    assert "can't tell of p99<1us: nothing was answered" in done.stdout


def test_without_the_extra_it_says_how_to_get_it():
    program = (
        "import sys; sys.modules['hdrh'] = None; sys.argv = ['anysock', 'load', ':1']; "
        "from anysock.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "pip install 'anysock[load]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# -- in the library -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("churn", "form"), [(None, {}), (1, {}), (None, {"lines": True}), (None, {"frames": True})]
)
def test_the_worker_in_c_says_the_same(start_server, churn, form):
    if shutil.which("cc") is None:
        assert not os.environ.get("CI"), "there is no C compiler"
        pytest.skip("there is no C compiler")
    server = start_server()
    plan = Plan(
        Address("127.0.0.1", server.port),
        connections=1 if churn else 5,
        duration=0.3,
        warmup=0.1,
        churn=churn,
        interval=0.1,
        **form,
    )
    with c_tools() as tools:
        assert tools is not None
        outcome = load(plan, worker=c_worker(tools / "load"))
        untold = load(plan, worker=c_worker(tools / "load", ticks=False))
    assert outcome.ok
    assert len(outcome.echo) == outcome.messages
    assert 0 < outcome.echo.percentile(50) < 0.1
    # One that the machine has held up is longer, and there is one less.
    late = any(each.end - each.begin > 0.15 for each in outcome.intervals)
    for told in (outcome.intervals, outcome.to_dict()["intervals"]):
        assert len(told) == 3 or (late and 0 < len(told) < 3)
    assert sum(each.messages for each in outcome.intervals) == outcome.messages
    cells = sum((each.cells for each in outcome.intervals), Counter())
    assert cells.total() == outcome.messages
    assert all(one.end == two.begin for one, two in itertools.pairwise(outcome.intervals))
    assert untold.messages > 0
    assert not untold.intervals
    assert outcome.opened == (outcome.messages if churn else 5)
    server.expected_errors.append("reset")


def test_the_worker_in_c_tells_of_intervals_in_which_nothing_came():
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")

    def stall(client):
        """Answer, but once, 0.3 s after a client has come, not for half a second."""
        at = time.monotonic() + 0.3
        while data := client.recv(65536):
            if time.monotonic() > at:
                time.sleep(0.5)
                at = math.inf
            client.sendall(data)

    with bad_server(stall) as port, c_tools() as tools:
        assert tools is not None
        plan = Plan(
            Address("127.0.0.1", port), connections=1, duration=1.2, warmup=0.0, interval=0.1
        )
        outcome = load(plan, worker=c_worker(tools / "load"))
    silent = [each for each in outcome.intervals if not each.messages]
    assert 3 <= len(silent) <= 5
    assert sum(each.messages for each in outcome.intervals) == outcome.messages
    assert max(each.echo.get("max") or 0 for each in outcome.intervals) >= 0.5


def test_the_server_is_found_by_its_port(start_server):
    server = start_server()
    assert listeners_at(("127.0.0.1", server.port)) == [server.pid]
    assert listeners_at(("127.0.0.1", free_port())) == []
    assert listeners_at(("192.0.2.1", server.port)) == []


@pytest.mark.parametrize(
    ("load_cpu", "server", "says"),
    [
        ([0.99], 0.5, "was the bottleneck"),
        ([0.99], 0.97, None),
        ([0.5], 0.5, None),
        ([0.4, 0.96], None, "may have been the bottleneck"),
    ],
)
def test_it_says_when_the_load_side_was_the_bottleneck(load_cpu, server, says):
    plan = Plan(Address("127.0.0.1", 1))
    cpu = None if server is None else Cpu(server, server, 0.0)
    outcome = Outcome(plan, seconds=1.0, messages=1, load_cpu=load_cpu, server_cpu=cpu)
    assert (says or "None") in str(outcome.bottleneck)


def test_a_plan_that_makes_no_sense():
    with pytest.raises(UsageError):
        load(Plan(Address("127.0.0.1", 1), connections=1, processes=2))
