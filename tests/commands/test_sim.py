"""``anysock sim`` as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.running import refused
from tests.harness import PATIENCE, wait_until

SIM = [sys.executable, "-m", "anysock", "sim"]

HANDLERS = '''
import time

import anysock


async def upper(connection):
    async for line in connection.lines():
        await connection.send_all(line.upper())


async def forgets(connection):
    """The end of what does not end with a line is not answered."""
    async for line in connection.lines():
        if line.endswith(b"\\\\n"):
            await connection.send_all(line)


async def tells(connection):
    while await connection.recv():
        pass
    open("served", "a").close()


async def raises(connection):
    raise LookupError("no")


async def looks_at_the_clock(connection):
    await connection.recv()
    time.time()


async def shouts(connection, random):
    size = random.randrange(1, 50)
    await connection.send_all(b"a" * size + b"\\\\n")
    answer = await connection.recv_line()
    assert b"a" not in answer, "it did not shout"


def one_at_most(history):
    if len(history.clients) > 1:
        yield f"there were {len(history.clients)}"
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS.replace("\\\\", "\\"))
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> list[str]:
    """The lines that it prints."""
    done = subprocess.run(
        [*SIM, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_it_says_what_was_explored(folder):
    lines = run(folder, "-n", "8", "-c", "4", "--seed", "5")
    assert re.match(
        r"8 histories of echo, seeds 5 to 12: [\d,]+/s, \d+ s of virtual time", lines[0]
    )
    assert lines[1].startswith("faults: ")
    assert lines[-1].startswith("ends: done ")
    assert not (folder / ".sim").exists()


def test_what_fails_is_shrunk_told_and_can_be_repeated(folder):
    lines = run(folder, "handlers:forgets", "--check", "echo", "--html", "page.html", code=1)
    assert "<title>Anysock: what_ends_well_is_complete: " in (folder / "page.html").read_text()
    fails = next(place for place, line in enumerate(lines) if " fails: " in line)
    assert re.match(r"seed \d+ fails: what_ends_well_is_complete: client \d+ ended", lines[fails])
    assert re.match(
        r"shrunk in \d+ tries: 20 clients -> 1; no faults; no options", lines[fails + 1]
    )
    told = lines[fails + 2 : -2]
    assert 5 < len(told) <= 20
    assert "client0   > server  1 B" in told[2]
    assert "=>        what_ends_well_is_complete: client" in told[-1]
    assert lines[-1] == "also under selector: yes, in 1 try"
    words = lines[-2].removeprefix("repeat: anysock sim ").split()
    assert run(folder, *words, code=1)[-1] == "it fails in the same way, step for step"
    # And when it is changed:
    lines = run(folder, "handlers:raises", *words[1:], code=1)
    assert lines[-2].startswith("it fails in another way: it was what_ends_well_is_complete: ")
    assert lines[-1] == "it is now: handler raised LookupError: no"
    assert run(folder, "echo", *words[1:])[-1].startswith("it does not fail any more: it was what_")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_any_number_of_processes_finds_the_same(folder, jobs):
    lines = run(
        folder, "handlers:upper", "--check", "echo", "-c", "1", "--seed", "2", "-j", jobs,
        "--messages", "2", "--keep-going", "-n", "12", "--confirm", "none", code=1,
    )  # fmt: skip
    told = [re.sub(r": [\d,]+/s", "", line) for line in lines]
    assert told[0] == "12 histories of handlers:upper, seeds 2 to 13, 25 s of virtual time"
    assert "seed 3 fails: bytes_are_right: client 0 received wrong bytes" in lines[4]
    assert lines[-1] == "fail: bytes_are_right 5"


def test_a_client_of_ones_own(folder):
    run(folder, "handlers:upper", "--check", "handlers:shouts", "-n", "5", "--faults", "none")
    lines = run(
        folder,
        "echo",
        "--check",
        "handlers:shouts",
        "--no-swarm",
        "-n",
        "5",
        "--confirm",
        "none",
        code=1,
    )
    assert "it did not shout" in "".join(lines)


def test_a_judge_of_ones_own(folder):
    run(folder, "handlers:upper", "--check", "handlers:one_at_most", "-n", "2", "-c", "1")
    lines = run(
        folder,
        "handlers:upper",
        "--check",
        "handlers:one_at_most",
        "-c",
        "3",
        "--confirm",
        "none",
        code=1,
    )
    assert "seed 0 fails: one_at_most: there were 3" in lines


def test_the_whole_trace(folder):
    lines = run(
        folder,
        "handlers:forgets",
        "--check",
        "echo",
        "--trace",
        "-n",
        "9",
        "--confirm",
        "none",
        code=1,
    )
    assert "fin server 0" in "\n".join(lines) or "> server  end of stream" in "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "unknown handler 'nobody'"),
        (["handlers:nobody"], "the module 'handlers' has no 'nobody'"),
        (["--check", "all"], "unknown check 'all': choose one of echo, lines, none"),
        (["--check", "handlers:nobody"], "the module 'handlers' has no 'nobody'"),
        (["--check", "handlers:time"], "is no function"),
        (["--faults", "rain"], "there is no fault 'rain'"),
        (["--faults", "reset=2"], "expected from 0 to 1"),
        (["--clients", "-1"], "expected at least 0, not -1"),
        (["--histories", "0"], "expected at least 1, not 0"),
        (["--jobs", "0"], "expected at least 1, not 0"),
        (["--option", "max-connections"], "expected NAME=VALUE, not 'max-connections'"),
        (["--option", "speed=1"], "a server has no option 'speed'"),
        (["--option", "bind=:1"], "bind has no place in a simulated network"),
        (["--option", "backlog=0"], "--backlog: expected at least 1, not 0"),
        (["--time", "soon"], "such as 500ms"),
        (["--confirm", "blocking"], "'blocking' serves one client at a time"),
        (["--confirm", "selector,sim"], "unknown engine 'sim': choose of blocking, threads"),
        (["--replay", "none.json"], "can't read none.json: No such file"),
        (["--replay", "handlers.py"], "handlers.py: no JSON"),
        (
            ["--replay", "none.json", "--seed", "3"],
            "--replay repeats what is in its file: no --seed",
        ),
        (["--replay", "none.json", "--time", "3"], "no --time"),
        (["--html", "/nowhere/page.html"], "there is no folder /nowhere"),
    ],
)
def test_bad_usage(folder, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "handlers", raising=False)
    assert says in refused("sim", *arguments)


def test_who_touches_the_real_machine_is_told_where(folder):
    done = subprocess.run(
        [*SIM, "handlers:looks_at_the_clock", "-n", "3", "-c", "4"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert re.match(r"anysock: handlers\.py:\d+: time\.time\(\) is the real machine's", line)
    assert line.endswith("(or let it pass: --real-world)")
    run(folder, "handlers:looks_at_the_clock", "-n", "3", "--real-world", "clock")


def test_a_fault_that_never_strikes_is_told(folder):
    arguments = ("-n", "3", "-c", "2", "--faults", "loss,jitter", "--no-swarm")
    assert "never struck: loss" in run(folder, *arguments)
    lines = run(folder, *arguments, "--require-faults", code=1)
    assert lines[-1] == "fails: faults were asked for, and never struck"


@pytest.mark.parametrize("more", [[], ["-j", "2"]])
def test_ctrl_c_keeps_what_was_found(folder, more):
    with subprocess.Popen(
        [*SIM, "handlers:tells", "--check", "none", "-c", "2", "-n", "10000000",
         "--real-world", "files", *more],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        wait_until((folder / "served").exists, "it explores")
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert re.match(r"[\d,]+ histor(y|ies) of handlers:tells, seeds? ", out)
    assert not error
