"""What a process of ours finds when it starts: closed descriptors, ignored signals, being the first
process of a container, a start that waits for what never comes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import (
    ENGINES,
    PATIENCE,
    cases_by_engine,
    connect_to,
    free_port,
    receive_exactly,
    wait_until,
)

CLOSED = [
    kinds
    for number in (1, 2, 3)
    for kinds in itertools.combinations(("<&-", ">&-", "2>&-"), number)
]


def shell(first: str, redirections: str, *command: str) -> subprocess.Popen[bytes]:
    """``anysock COMMAND``, started by a shell that does `first`, and that it takes the place of."""
    given = ["sh", "-c", f'{first} exec "$@" {redirections}', "sh", sys.executable, "-m", "anysock"]
    return subprocess.Popen(
        [*given, *command],
        # Who talks goes on until there is nothing more to say.
        stdin=subprocess.PIPE if first and command[0] == "talk" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), connect_to(address) as client:
        client.sendall(b"hello")
        return receive_exactly(client, 5) == b"hello"
    return False


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# -- closed descriptors ----------------------------------------------------------------------------


# libuv, of all engines' loops, has opinions of its own about these descriptors.
@pytest.mark.parametrize(
    ("engine", "closed"),
    cases_by_engine(
        {"".join(each): each for each in CLOSED},
        "".join(CLOSED[-1]),
        all_on=("selector", "uvloop"),
    ),
)
def test_a_server_serves_whatever_is_closed(engine, closed):
    address = f"tcp://127.0.0.1:{free_port()}"
    with ended(shell("", " ".join(closed), "serve", "-e", engine, "-b", address)) as process:
        wait_until(lambda: answers(address) or process.poll() is not None, "it serves")
        # No socket, and nothing else of ours, has got one of these numbers.
        for fd in range(3):
            target = os.readlink(f"/proc/{process.pid}/fd/{fd}")
            assert target == "/dev/null" or target.startswith("pipe:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_workers_serve_without_standard_descriptors():
    address = f"tcp://127.0.0.1:{free_port()}"
    command = ("serve", "-e", "selector", "-b", address, "--workers", "2")
    with ended(shell("", "<&- >&- 2>&-", *command)) as process:
        wait_until(lambda: answers(address) or process.poll() is not None, "it serves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("closed", CLOSED, ids="".join)
@pytest.mark.parametrize("command", [("talk",), ("ping", "-c", "1")], ids=lambda each: each[0])
def test_clients_do_their_work_whatever_is_closed(start_server, command, closed):
    server = start_server()
    with ended(shell("", " ".join(closed), *command, f"127.0.0.1:{server.port}")) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert b"Traceback" not in out + err


def test_talk_without_standard_input_does_not_read_its_own_connection(start_server):
    """Its socket was number 0, and so what the server said was taken for what was typed."""
    server = start_server("daytime")
    with ended(shell("", "<&-", "talk", f"127.0.0.1:{server.port}")) as process:
        out, _ = process.communicate(timeout=PATIENCE)
        assert out.count(b"\n") == 1
        assert process.returncode == 0


# -- signals that were ignored ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "workers"), [*((name, "1") for name in ENGINES), ("selector", "2")]
)
def test_a_signal_that_was_ignored_at_the_start_stays_so(engine, workers):
    address = f"tcp://127.0.0.1:{free_port()}"
    command = ["serve", "-e", engine, "-b", address, "--workers", workers]
    ignoring = "trap '' INT HUP; "
    given = ["sh", "-c", ignoring + 'exec "$@"', "sh", sys.executable, "-m", "anysock", *command]
    with ended(
        subprocess.Popen(given, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ) as process:
        wait_until(lambda: answers(address) or process.poll() is not None, "it serves")
        ignored = int(status(process.pid, "SigIgn"), 16)
        for signum in (signal.SIGINT, signal.SIGHUP):
            assert ignored >> (signum - 1) & 1
            process.send_signal(signum)
            process.send_signal(signum)
        assert answers(address)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert b"SIGTERM" not in err
        assert b"reloaded" not in err


def status(pid: int, name: str) -> str:
    """A field of proc(5), /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(name + ":"))


def test_who_ignores_sigterm_is_told_what_ends_it():
    address = f"tcp://127.0.0.1:{free_port()}"
    with ended(shell("trap '' TERM;", "", "serve", "-b", address)) as process:
        wait_until(lambda: answers(address) or process.poll() is not None, "it serves")
        process.send_signal(signal.SIGTERM)
        assert answers(address)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert b"SIGTERM is ignored, as it was when this process was started; SIGINT ends it" in err


@pytest.mark.parametrize("command", [("ping", "-i", "0.01"), ("talk",)], ids=lambda each: each[0])
def test_a_client_leaves_an_ignored_signal_so(start_server, command):
    server = start_server()
    with ended(shell("trap '' INT;", "", *command, f"127.0.0.1:{server.port}")) as process:
        server.wait_for("I got a connection")
        process.send_signal(signal.SIGINT)
        assert int(status(process.pid, "SigIgn"), 16) >> (signal.SIGINT - 1) & 1
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


# -- a start that waits ----------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_waits_for_a_file_ends_at_the_first_signal(engine, signum, tmp_path):
    fifo = tmp_path / "certificate"
    os.mkfifo(fifo)
    address = f"tls://127.0.0.1:{free_port()}"
    command = ("serve", "-e", engine, "-b", address, "--tls-cert", str(fifo))
    with ended(shell("", "", *command)) as process:
        wait_until(lambda: opens(process.pid), "it waits for somebody to write there")
        process.send_signal(signum)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -signum, 128 + signum), err
        assert b"Traceback" not in err


def opens(pid: int) -> bool:
    """Whether the main thread of `pid` sleeps in open(2) of a FIFO (fifo(7))."""
    with contextlib.suppress(OSError):
        where = Path(f"/proc/{pid}/wchan").read_text()
        # Where that is kept secret it is 0.
        return "wait_for_partner" in where or (where == "0" and catches(pid, signal.SIGTERM))
    return False


# -- the first process of a container --------------------------------------------------------------


def namespaces() -> str | None:
    """Why no process here can be the first of a namespace; None: it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare(1)"
    done = subprocess.run(
        [*UNSHARE, "true"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return None if done.returncode == 0 else f"unshare: {done.stderr.strip()}"


UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
WHY_NOT = namespaces()
contained = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")


@contextlib.contextmanager
def in_a_container(
    *command: str, cwd: Path | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`command` as process 1 of its own namespace: its number out here, and unshare's process."""
    with ended(
        subprocess.Popen(
            [*UNSHARE, "--kill-child", sys.executable, "-m", "anysock", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
        )
    ) as process:  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split(), "it has begun")
        yield int(children.read_text().split()[0]), process


def catches(pid: int, signum: int) -> bool:
    return bool(int(status(pid, "SigCgt"), 16) >> (signum - 1) & 1)


@contained
def test_as_process_1_sigterm_ends_it_while_the_handler_is_imported(tmp_path):
    (tmp_path / "slow.py").write_text("import time; open('importing', 'w'); time.sleep(600)")
    command = ("serve", "slow:handler", "-b", "127.0.0.1:0")
    with in_a_container(*command, cwd=tmp_path) as (pid, process):
        wait_until((tmp_path / "importing").exists, "the handler is being imported")
        os.kill(pid, signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGTERM
        assert err.decode().splitlines() == ["anysock: ended by SIGTERM"]


@contained
def test_as_process_1_it_drains_at_sigterm():
    address = f"tcp://127.0.0.1:{free_port()}"
    with in_a_container("serve", "-b", address) as (pid, process):
        wait_until(lambda: answers(address), "it serves")
        os.kill(pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@contained
@pytest.mark.parametrize("command", [("talk",), ("ping", "-i", "0.01")], ids=lambda each: each[0])
def test_a_client_as_process_1_ends_at_sigterm(start_server, command):
    server = start_server()
    with in_a_container(*command, f"127.0.0.1:{server.port}") as (pid, process):
        server.wait_for("I got a connection")
        wait_until(lambda: catches(pid, signal.SIGTERM), "it has a handler")
        os.kill(pid, signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 1, 128 + signal.SIGTERM)
