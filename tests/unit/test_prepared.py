"""What is forked by an interpreter that is prepared has all that a fresh process has; no more."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests import prepared
from tests.harness import ServerProcess, receive_all, wait_until

if not prepared.AVAILABLE:
    pytest.skip("there are none here", allow_module_level=True)

SAID = """
import json, os, resource, signal, sys

def said():
    return {
        "arguments": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "flags": repr(sys.flags),
        "warnings": sys.warnoptions,
        "folder": os.getcwd(),
        "path": sys.path,
        "environment": dict(os.environ),
        "descriptors": sorted(
            os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ),
        "most descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
        "signals": [repr(signal.getsignal(each)).partition(" at ")[0] for each in (1, 2, 3, 15)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "parent": os.getppid(),
        "group": "its own" if os.getpgrp() == os.getpid() else os.getpgrp(),
        "session": "its own" if os.getsid(0) == os.getpid() else os.getsid(0),
        "main": vars(sys.modules["__main__"])["__file__"],
        "threads": len(os.listdir("/proc/self/task")),
        "modules": sorted(sys.modules),
    }
"""

HANDLER = (
    SAID
    + """
async def handler(connection):
    await connection.send_all(json.dumps(said()).encode())
"""
)

PROGRAM = (
    SAID
    + """
import anysock

async def main():
    print(json.dumps({**said(), "stdin": sys.stdin.read()}))
    print("told", file=sys.stderr)
    await anysock.sleep(0)
    raise SystemExit(len(sys.argv))

anysock.run(main)
"""
)

# What the interpreter itself has imported; and for a program, what `anysock.serve` would import.
_ITS_OWN = {"fcntl", "gc", "pkgutil", "resource", "runpy"}


@pytest.mark.parametrize("engine", ["threads", "selector", "trio"])
@pytest.mark.parametrize("inherits", [False, True])
def test_a_server_has_what_a_fresh_one_has(start_server, tmp_path, engine, inherits):
    (tmp_path / "mine.py").write_text(HANDLER)
    said = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # A number that neither this process nor an interpreter would choose.
        fd = 77
        os.dup2(listener.fileno(), fd)
        try:
            for fresh in (True, False):
                server = start_server(
                    *("mine:handler", *(["-b", f"fd://{fd}"] if inherits else [])),
                    engine=engine,
                    cwd=tmp_path,
                    pass_fds=(fd,) if inherits else (),
                    environment={"ANYSOCK_DRAIN_TIMEOUT": "7s", "NAME": "\udce9"},
                    fresh=fresh,
                )
                server.base_threads += inherits * (engine == "threads")
                assert getattr(server.process, "forked", False) != fresh
                # That of the log, which has told of the client; and that of the client.
                threads = server.base_threads + 1 + (engine == "threads")

                # Others may have still to begin, and that of the log may have ended meanwhile.
                def at_rest(server=server, threads=threads):
                    with server.connect() as client:
                        told = json.loads(receive_all(client))
                    return told if told["threads"] == threads else None

                said[fresh] = wait_until(at_rest, f"it has {threads} threads")
        finally:
            os.close(fd)
    more = set(said[False].pop("modules")) - set(said[True].pop("modules"))
    assert more <= _ITS_OWN
    assert said[False] == said[True]
    assert said[False]["parent"] == os.getpid()


@pytest.mark.parametrize("new_session", [False, True])
def test_a_program_has_what_a_fresh_one_has(tmp_path, new_session):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = {
        forked: run(
            [sys.executable, "-X", "dev", "-W", "error", "-u", program, "--engine", "trio"],
            input="typed",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            start_new_session=new_session,
            # As we know it: readline has set the size of a screen, for C alone.
            env=os.environ,
        )
        for forked, run in ((False, subprocess.run), (True, prepared.run))
    }
    assert done[True].returncode == done[False].returncode == 3
    assert done[True].stderr == done[False].stderr == "told\n"
    said = {forked: json.loads(each.stdout) for forked, each in done.items()}
    # As if it had served already.
    assert set(said[True].pop("modules")) >= set(said[False].pop("modules"))
    assert said[True] == said[False]
    assert (said[True]["session"] == "its own") == new_session
    assert said[True]["stdin"] == "typed"


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "import anysock"],
        ["-m", "anysock"],
        ["-m", "anysock", "nonsense"],
        ["-I", "-m", "anysock", "engines"],
        ["-m", "json.tool"],
    ],
    ids=" ".join,
)
def test_anything_else_is_started(words):
    assert prepared.Program.read([sys.executable, *words]) is None
    assert prepared.Program.read(["python-of-another", "-m", "anysock", "engines"]) is None


def test_what_it_has_imported_is_not_looked_through_for_garbage(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import gc, anysock\nprint(len(gc.get_objects()))")
    command = [sys.executable, program]
    objects = [
        int(run(command, capture_output=True, timeout=30, check=True).stdout)
        for run in (subprocess.run, prepared.run)
    ]
    assert objects[1] < objects[0] / 10


def test_where_an_interpreter_would_be_another_it_is_started(tmp_path):
    """One that has another environment when it begins."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nprint('customized', file=sys.stderr)\n")
    server = ServerProcess(environment={"PYTHONPATH": str(tmp_path)})
    server.check()
    assert server.lines[0] == "customized"
    assert not getattr(server.process, "forked", False)


def test_a_change_of_the_environment_is_for_those_that_come_after(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text(HANDLER)
    for number in ("1", "2"):
        monkeypatch.setenv("SOME_NAME", number)
        monkeypatch.setenv("PYTHONSOMETHING", number)
        server = ServerProcess("mine:handler", cwd=tmp_path)
        with server.connect() as client:
            environment = json.loads(receive_all(client))["environment"]
        server.check()
        assert environment["SOME_NAME"] == environment["PYTHONSOMETHING"] == number


def test_how_it_has_ended_is_known():
    server = ServerProcess()
    assert server.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.01)
    server.signal(signal.SIGKILL)
    assert server.wait() == server.process.poll() == -signal.SIGKILL
    server.signal()  # nobody has its number any more
    server.kill()


def test_what_can_not_start_says_so_and_has_its_exit_code():
    command = [sys.executable, "-m", "anysock", "serve", "--bind", "nonsense"]
    done = prepared.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "nonsense" in done.stderr
    assert done.returncode == 2
    with pytest.raises(subprocess.CalledProcessError):
        prepared.run(command, stderr=subprocess.DEVNULL, timeout=30, check=True)


@pytest.mark.parametrize("fresh", [False, True])
def test_it_is_pure_python_where_that_is_asked_for(monkeypatch, tmp_path, fresh):
    """`make test` runs some tests once more like that, and they start servers."""
    (tmp_path / "mine.py").write_text(
        "from anysock.machine import compiled\n"
        "async def handler(connection):\n"
        "    await connection.send_all(compiled.why_not.encode())\n"
    )
    monkeypatch.setenv("ANYSOCK_PURE", "1")
    server = ServerProcess("mine:handler", cwd=tmp_path, fresh=fresh)
    with server.connect() as client:
        assert receive_all(client) == b"ANYSOCK_PURE is set"
    server.check()


@pytest.mark.parametrize(("fresh", "seconds"), [(True, 0.25), (False, 0.01)])
def test_who_waits_for_its_rest_does_not_wait_for_the_log(tmp_path, fresh, seconds):
    """All that is different: the thread that writes the log ends sooner when there is no more."""
    (tmp_path / "mine.py").write_text(
        "from anysock.machine import line_writer\n"
        "async def handler(connection):\n"
        "    await connection.send_all(str(line_writer._LINGER_SECONDS).encode())\n"
    )
    server = ServerProcess("mine:handler", cwd=tmp_path, fresh=fresh)
    with server.connect() as client:
        assert float(receive_all(client)) == seconds
    server.check()


def test_one_interpreter_becomes_those_of_all_engines():
    ServerProcess(engine="selector").check()
    begun = prepared._first.cache_info().currsize
    for engine in ("threads", "trio"):
        server = ServerProcess(engine=engine)
        assert server.process.forked  # type: ignore[union-attr]
        assert server.ask(b"hello") == b"hello"
        server.check()
    assert prepared._first.cache_info().currsize == begun
