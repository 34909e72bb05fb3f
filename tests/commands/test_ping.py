"""``anysock ping`` as a process, against servers that are right and servers that are not."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from anysock.clients.echo_check import payload_of
from anysock.clients.ping.output import summary_lines
from anysock.clients.ping.statistics import MAX_SAMPLES, Summary, Times
from tests import bad_servers, prepared
from tests.bad_servers import bad_server
from tests.harness import ENGINES, PATIENCE, free_port, receive_exactly, wait_until

PING = [sys.executable, "-m", "anysock", "ping"]
QUICK = ("-i", "20ms")


def ping(*arguments: str, code: int = 0) -> list[str]:
    """The lines that it prints."""
    done: subprocess.CompletedProcess[str] = prepared.run(
        [*PING, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def report(*arguments: str, code: int = 0) -> Any:
    return json.loads("\n".join(ping(*arguments, "--json", code=code)))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_prints_what_ping_prints(start_server, engine):
    server = start_server(engine=engine)
    lines = ping(f":{server.port}", "-c", "3", *QUICK)
    where = f"127.0.0.1:{server.port}"
    assert lines[0] == f"PING {where} (tcp) 64 bytes of data"
    for number, line in enumerate(lines[1:4], 1):
        assert re.fullmatch(rf"64 bytes from {where}: seq={number} time=\d+\.\d\d\d ms", line)
    assert lines[4] == f"--- {where} ping statistics ---"
    assert lines[5].startswith("3 sent, 3 received, 0 lost (0 %), time ")
    figures = r"\d+\.\d{3}"
    # Of three, no percentile is told.
    assert re.fullmatch(
        rf"rtt min/avg/max/mdev = {figures}/{figures}/{figures}/{figures} ms", lines[7]
    )


@pytest.mark.parametrize("size", ["1", "7", "1000", "1MiB"])
def test_every_size(start_server, size):
    found = report(f":{start_server().port}", "-c", "5", *QUICK, "-s", size)
    assert (found["sent"], found["received"], found["lost"], found["bad"]) == (5, 5, 0, {})


def test_a_connection_for_each_probe(start_server):
    server = start_server()
    lines = ping(f":{server.port}", "-c", "3", *QUICK, "--connect")
    assert all("connect=" in line and "time=" in line for line in lines[1:4])
    assert "connect min/avg/max/mdev" in lines[-2]
    server.wait_for("I got a connection", times=3)


def test_without_an_interval_the_next_goes_when_the_last_is_answered(start_server):
    found = report(f":{start_server().port}", "-c", "1000", "-i", "0")
    assert found["received"] == 1000
    rtt = found["rtt"]
    assert rtt["min"] <= rtt["p50"] <= rtt["p99"] <= rtt["max"]
    assert found["connect"]["mdev"] == 0.0


def test_quiet(start_server):
    lines = ping(f":{start_server().port}", "-c", "2", *QUICK, "-q")
    assert lines[0].startswith("---")


def test_corrupt_answers():
    # One after the other: two that came at once would have one wrong byte between them.
    with bad_server(bad_servers.corrupt) as port:
        lines = ping(f":{port}", "-c", "2", "-i", "0", code=1)
    assert re.fullmatch(
        r"corrupt answer from .*: seq=1 \(byte 63 is 0x.., not 0x..\)", lines[1]
    ), lines[1]  # fmt: skip
    assert "2 sent, 0 received, 2 lost (100 %)" in lines[4]
    assert "2 corrupt" in lines


def test_reordered_answers():
    with bad_server(bad_servers.reorder) as port:
        found = report(f":{port}", "-c", "4", *QUICK, code=1)
    assert found["received"] == 4
    assert found["bad"] == {"reordered": 2}


def test_duplicate_answers():
    with bad_server(bad_servers.twice) as port:
        found = report(f":{port}", "-c", "3", "-i", "100ms", code=1)
    assert found["received"] == 3
    assert found["bad"]["duplicate"] >= 2  # the last one's may come after the end


def test_a_late_answer_is_lost_and_named():
    with bad_server(bad_servers.late_once) as port:
        lines = ping(f":{port}", "-c", "2", "-i", "400ms", "--timeout", "200ms", code=1)
    assert any(re.match(r"no answer from .*: seq=1 \(within 200ms\)", line) for line in lines)
    assert any(re.match(r"late answer from .*: seq=1", line) for line in lines)
    assert any("2 sent, 1 received, 1 lost (50 %)" in line for line in lines)


def test_a_short_answer_and_a_connection_that_ends():
    with bad_server(bad_servers.half) as port:
        found = report(f":{port}", "-c", "3", "-i", "100ms", code=1)
    assert found["lost"] == 3
    assert found["bad"] == {"short": 3}
    assert found["connect"]["min"] > 0


def test_a_broken_connection_is_one_line_and_the_next_probe_opens_another():
    with bad_server(bad_servers.reset_after_a_message) as port:
        lines = ping(f":{port}", "-c", "4", "-i", "100ms", code=1)
    assert [line for line in lines if line.startswith("Connection reset by peer: ")]
    assert [line for line in lines if "seq=3 time=" in line]
    assert "4 sent, 2 received, 2 lost (50 %)" in "\n".join(lines)


def test_a_connection_that_ends_between_two_probes_is_one_line_too():
    with bad_server(lambda client: client.sendall(client.recv(65536))) as port:
        lines = ping(f":{port}", "-c", "3", "-i", "300ms")
    assert f"Connection closed by foreign host: 127.0.0.1:{port}" in lines
    assert "3 sent, 3 received, 0 lost (0 %)" in "\n".join(lines)


def test_one_lost_answer_hurts_no_other():
    def lose_one(client):
        client.recv(65536)
        bad_servers.echo(client)

    with bad_server(lose_one) as port:
        found = report(f":{port}", "-c", "3", "-i", "700ms", "--timeout", "600ms", code=1)
    assert (found["received"], found["lost"], found["bad"]) == (2, 1, {})


def test_slow_answers_do_not_move_the_next_probe():
    """None is answered before the third has come: they are sent when they are due."""

    def wait_for_three(client):
        receive_exactly(client, 2 * 64)
        held = receive_exactly(client, 64)
        client.sendall(b"".join(payload_of(number, 64) for number in (1, 2)) + held)

    with bad_server(wait_for_three) as port:
        found = report(f":{port}", "-c", "3", *QUICK)
    assert (found["received"], found["bad"]) == (3, {})


def test_a_silent_server():
    with bad_server(bad_servers.silent) as port:
        found = report(f":{port}", "-c", "2", *QUICK, "--timeout", "100ms", code=1)
    assert (found["sent"], found["lost"], found["rtt"]) == (2, 2, {})


@pytest.mark.parametrize("more", [[], ["--connect"]], ids=str)
def test_nobody_there(more):
    lines = ping(f":{free_port()}", "-c", "2", *QUICK, *more, code=1)
    assert lines[1].startswith("Connection refused: 127.0.0.1:")
    assert "2 Connection refused" in lines


def test_an_unknown_name_is_one_line():
    done = prepared.run(
        [*PING, "no-such-host.invalid:7"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "can't resolve the host 'no-such-host.invalid'" in line


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_the_summary(start_server, signum):
    process = prepared.Popen(
        [*PING, f":{start_server().port}", "-i", "50ms"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert "seq=2" in lines[2]
    process.send_signal(signum)
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + error
    assert "0 lost (0 %)" in out
    assert error == ""


def test_sigquit_prints_how_it_stands(start_server):
    process = prepared.Popen(
        [*PING, f":{start_server().port}", "-i", "50ms", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    told = []

    def answers_told() -> bool:
        assert process.stderr is not None
        process.send_signal(signal.SIGQUIT)
        told.append(process.stderr.readline())
        return int(told[-1].partition("/")[0]) >= 2

    try:
        # With -q nothing is printed that would say so.
        wait_until_caught(process.pid, signal.SIGQUIT)
        wait_until(answers_told, "two answers")
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()  # where one of these has failed: it would go on for ever
    assert process.returncode == 0, out + error
    for line in told:
        assert re.match(r"\d+/\d+ answered(, rtt min/avg/max/mdev = .* ms)?$", line), line
    assert "0 lost (0 %)" in out
    assert "answered" not in out


def wait_until_caught(pid: int, signum: int) -> None:
    """Until the process has a handler for the signal."""

    def caught() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nState:\tZ" not in status, "it has ended"
        [line] = [line for line in status.splitlines() if line.startswith("SigCgt:")]
        return bool(int(line.split()[1], 16) >> (signum - 1) & 1)

    wait_until(caught, "a handler for the signal")


def test_a_deadline_ends_it(start_server):
    found = report(f":{start_server().port}", "-i", "10ms", "-w", "300ms")
    assert found["sent"] > 0
    assert (found["lost"], found["bad"]) == (0, {})
    assert found["seconds"] >= 0.3


@pytest.mark.parametrize("server", ["silent", "echo"])
def test_fewer_answers_than_asked_for_by_the_deadline(server):
    with bad_server(getattr(bad_servers, server)) as port:
        found = report(f":{port}", "-c", "2", "-i", "1h", "-w", "300ms", code=1)
    assert (found["sent"], found["lost"]) == (1, 0)
    assert (found["received"], found["waiting"]) == ((1, 0) if server == "echo" else (0, 1))


def test_lines_begin_with_the_time_of_day(start_server):
    begun = time.time()
    lines = ping(f":{start_server().port}", "-c", "3", *QUICK, "-D")
    stamps = [re.match(r"\[(\d+\.\d{6})\] 64 bytes from ", line) for line in lines[1:4]]
    times = [float(found[1]) for found in stamps if found]
    assert len(times) == 3
    assert times == sorted(times)
    assert begun <= times[0] + 1e-6
    assert times[-1] <= time.time()


def test_what_is_interrupted_before_its_answer_is_not_lost():
    asked = threading.Event()

    def listen(client):
        while client.recv(65536):
            asked.set()

    with bad_server(listen) as port:
        process = prepared.Popen(
            [*PING, f":{port}", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    found = json.loads(out)
    assert (found["sent"], found["lost"], found["waiting"]) == (1, 0, 1)
    assert process.returncode == 1  # nothing was answered


@pytest.mark.parametrize("more", [[], ["--connect"]], ids=str)
def test_a_reader_that_leaves_ends_it(start_server, more):
    """``anysock ping :7 | head -2``"""
    process = prepared.Popen(
        [*PING, f":{start_server().port}", *QUICK, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-c", "0"], "-c"),
        (["-s", "0"], "at least one byte"),
        (["-i", "often"], "500ms"),
        (["--timeout", "0"], "leaves no time"),
        (["-w", "0"], "--deadline 0"),
    ],
)
def test_bad_usage(arguments, says):
    done = prepared.run(
        [*PING, ":1", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_statistics():
    times = Times()
    for milliseconds in range(1, 101):
        for _ in range(10):
            times.add(milliseconds / 1000)
    found = times.summary()
    assert found["min"] == 0.001
    assert found["max"] == 0.1
    assert found["avg"] == pytest.approx(0.0505)
    assert found["mdev"] == pytest.approx(0.028866, rel=1e-3)
    assert found["p50"] == 0.05
    assert found["p99"] == 0.099


def test_a_percentile_is_told_once_ten_round_trips_lie_beyond_it():
    summary = Summary()
    told = []
    for number in range(1000):
        summary.rtt.add(number / 1000)
        told.append(summary_lines(summary, "x")[-1])
    assert "p50" not in told[18]
    assert told[19].endswith(", p50 = 9.000 ms")
    assert told[998].endswith(", p50 = 499.000 ms")
    assert told[999].endswith(", p50/p99 = 499.000/989.000 ms")


def test_an_endless_run_has_an_end_to_its_memory():
    times = Times()
    for number in range(MAX_SAMPLES + 10):
        times.add(number)
    assert times.count == MAX_SAMPLES + 10
    assert times.percentile(0) == 10
