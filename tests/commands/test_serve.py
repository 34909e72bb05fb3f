"""``anysock serve`` from the outside: what it says, where it listens, how it refuses."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import prepared
from tests.harness import receive_all, receive_exactly


def anysock(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    """Run ``anysock`` to its end."""
    command = [sys.executable, "-m", "anysock", *arguments]
    return prepared.run(command, capture_output=True, text=True, timeout=30, check=False, **more)


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    """It ended with `code`, and one line that says it all."""
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for words in says:
        assert words in done.stderr
    assert done.stdout == ""


# -- the services -------------------------------------------------------------------------------


def test_discard_answers_nothing(engine, start_server):
    server = start_server("discard", engine=engine)
    assert server.ask(b"x" * 1_000_000) == b""


def test_chargen_sends_the_pattern_of_rfc_864(engine, start_server):
    server = start_server("chargen", engine=engine)
    with server.connect() as client:
        lines = receive_exactly(client, 74 * 200).split(b"\r\n")[:-1]
    ring = bytes(range(32, 127))
    for number, line in enumerate(lines):
        assert line == (ring * 2)[number % 95 :][:72]
    assert lines[0].startswith(b' !"#$%&')


def test_chargen_throws_away_what_it_is_sent(concurrent_engine, start_server):
    server = start_server("chargen", engine=concurrent_engine)
    with server.connect() as client:
        receive_exactly(client, 1000)
        client.sendall(b"x" * 10_000_000)  # would get stuck if nobody received it


def test_daytime_is_one_line_and_the_end(engine, start_server):
    server = start_server("daytime", engine=engine)
    with server.connect() as client:
        line = receive_all(client).decode()
    told = time.strptime(line, "%A, %B %d, %Y %H:%M:%S-UTC\r\n")
    assert abs(time.mktime(told) - time.mktime(time.gmtime())) < 10


def test_time_is_4_bytes_since_1900(engine, start_server):
    server = start_server("time", engine=engine)
    with server.connect() as client:
        seconds = int.from_bytes(receive_all(client), "big")
    assert abs((seconds - 2_208_988_800) % 2**32 - time.time() % 2**32) < 10


def test_a_handler_of_ones_own_is_found_in_the_current_folder(engine, start_server, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "shout.py").write_text(
        "async def shout(connection):\n"
        "    async for line in connection.lines():\n"
        "        await connection.send_all(line.upper())\n"
    )
    server = start_server("package.shout:shout", engine=engine, cwd=tmp_path)
    assert server.ask(b"hello\n") == b"HELLO\n"


def test_the_installed_command_serves(tmp_path):
    command = Path(sys.executable).with_name("anysock")
    process = subprocess.Popen([command, "serve", "-b", "127.0.0.1:0"], stderr=subprocess.PIPE)
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"listening on tcp://127.0.0.1:")
        process.terminate()
    assert process.returncode == 0


# -- where it listens ---------------------------------------------------------------------------


def test_it_listens_on_every_address_that_it_is_given(engine, start_server):
    server = start_server("echo", "--bind", "[::1]:0", "--bind", "tcp://127.0.0.1:0", engine=engine)
    if engine == "threads":
        server.base_threads += 2  # each listener has one that accepts
    server.wait_for("listening on", times=3)
    found = server.matching(r"listening on tcp://(.+):(\d+) \(([\w-]+)\)$")
    assert [match[1] for match in found] == ["127.0.0.1", "[::1]", "127.0.0.1"]
    for match in found:
        address = (match[1].strip("[]"), int(match[2]))
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"


def test_no_host_means_all_addresses(start_server):
    server = start_server(bind=":0")
    server.wait_for(r"listening on tcp://\[::\]:\d+ |listening on tcp://0\.0\.0\.0:\d+ ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"x")
        assert receive_exactly(client, 1) == b"x"


def test_options_come_from_the_environment_too(start_server):
    environment = {"ANYSOCK_PREFIX": "env: ", "ANYSOCK_LOG_LEVEL": "error"}
    server = start_server("lines", environment=environment)
    assert server.ask(b"hello\n") == b"env: hello\n"
    assert not server.matching("I got a connection")
    # The command line has the last word.
    second = start_server("lines", "--prefix", "flag: ", environment=environment)
    assert second.ask(b"hello\n") == b"flag: hello\n"


# -- its log ------------------------------------------------------------------------------------


def test_the_ready_line_comes_at_every_level(engine, start_server):
    server = start_server("echo", "--log-level", "error", engine=engine)
    assert server.lines[0] == f"listening on tcp://127.0.0.1:{server.port} ({engine})"


def test_a_clients_arrival_is_told(engine, start_server):
    server = start_server(engine=engine)
    with server.connect() as client:
        port = client.getsockname()[1]
        server.wait_for(rf"^I got a connection from \('127\.0\.0\.1', {port}\)$")


def test_the_log_as_json():
    command = [sys.executable, "-m", "anysock", "serve", "-b", "127.0.0.1:0", "-v"]
    command += ["--log-format", "json", "--fail-on", "boom"]
    process = prepared.Popen(command, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        ready = json.loads(process.stderr.readline())
        port = int(re.findall(r":(\d+) ", ready["message"])[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            ours = list(client.getsockname())
            client.sendall(b"boom\n")
            assert receive_all(client) == b""
        process.terminate()
        entries = [json.loads(line) for line in process.stderr]
    assert process.returncode == 0
    assert ready["level"] == "info"
    for entry in [ready, *entries]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    arrival = next(entry for entry in entries if "I got a connection" in entry["message"])
    assert arrival["peer"] == ours
    failure = next(entry for entry in entries if entry["level"] == "error")
    assert failure["peer"] == ours
    assert "Traceback" in failure["error"]


# -- how it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "warp"], ["unknown engine 'warp'", "choose one of blocking, threads"]),
        (["--engine", "sim"], ["a network of its own, which no client can reach", "anysock sim"]),
        (["nonsense"], ["unknown handler 'nonsense'", "choose one of echo, lines"]),
        (["no.such:thing"], ["no module 'no'"]),
        (["os:no_such"], ["the module 'os' has no 'no_such'"]),
        (["os:getcwd"], ["'os:getcwd' is no handler: it is an ordinary function"]),
        (["os:PathLike"], ["'os:PathLike' is no handler: it is a class"]),
        (["os:name"], ["'os:name' is no handler: its type is str"]),
        (["asyncio:wait_for"], ["nothing else, and takes (fut, timeout)", "functools.partial"]),
        ([":x"], ["package.module:function"]),
        (["--bind", "nowhere"], ["bad address 'nowhere'", "host:port"]),
        (["--bind", "::1:80"], ["in brackets"]),
        (["--bind", "localhost:70000"], ["from 0 to 65535"]),
        (["--backlog", "0"], ["expected at least 1"]),
        (["--max-line", "much"], ["expected a number of bytes"]),
        (["--drain-timeout", "soon"], ["expected a number of seconds"]),
        (["--log-level", "loud"], ["debug, info, warning, error"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["echo", "echo"], ["unexpected extra argument"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value else None,
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, says):
    assert_one_line(anysock("serve", *arguments), 2, *says)


def test_a_bad_environment_variable_is_one_line_and_exit_code_2():
    environment = os.environ | {"ANYSOCK_ENGINE": "warp"}
    done = anysock("serve", env=environment)
    assert_one_line(done, 2, "unknown engine 'warp'")


def test_an_unknown_command_is_one_line_and_exit_code_2():
    assert_one_line(anysock("server"), 2, "server")


def test_an_address_in_use_is_one_line_and_exit_code_1(engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = anysock("serve", "--engine", engine, "--bind", f"127.0.0.1:{port}")
    assert_one_line(
        done, 1, f"can't listen on tcp://127.0.0.1:{port}: Address already in use", "another port"
    )


def test_when_one_of_several_addresses_fails_none_is_bound(engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = anysock("serve", "-e", engine, "-b", "127.0.0.1:0", "-b", f"127.0.0.1:{port}")
    assert_one_line(done, 1, f"tcp://127.0.0.1:{port}")


def test_an_address_of_another_machine_is_one_line_and_exit_code_1():
    done = anysock("serve", "--bind", "192.0.2.1:8000")
    assert_one_line(done, 1, "tcp://192.0.2.1:8000", "no interface of this machine")


def test_an_unknown_host_is_one_line_and_exit_code_1():
    done = anysock("serve", "--bind", "no.such.host.invalid:8000")
    assert_one_line(done, 1, "can't resolve the host 'no.such.host.invalid'")


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up its right to low ports")
def test_a_privileged_port_without_the_right_is_one_line_and_exit_code_1():
    """In a process that has imported everything while it could still read it."""
    program = (
        "import os, sys\n"
        "import anysock.server.server, anysock.cli.serve\n"
        "import anysock.engines.selector, encodings.idna\n"
        "import anysock.handlers.echo\n"
        "import anysock.cli\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sys.argv = ['anysock', 'serve', '--bind', '127.0.0.1:1']\n"
        "anysock.cli.main()\n"
    )
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("here everybody may listen on port 1")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert_one_line(done, 1, "can't listen on tcp://127.0.0.1:1: Permission denied", "below 1024")


def test_a_module_that_fails_to_import_shows_its_own_traceback(tmp_path):
    """The fault is the user's, and only a traceback says where it is."""
    (tmp_path / "mine.py").write_text("import no_such_module_at_all\n")
    done = anysock("serve", "mine:handler", cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'no_such_module_at_all'" in done.stderr
    assert "mine.py" in done.stderr


def test_a_port_in_the_place_of_the_handler_is_told_where_it_belongs():
    done = anysock("serve", "9000")
    assert_one_line(done, 2, "9000 is no handler; to listen on that port: --port 9000")


def test_help_tells_every_option_with_its_default_and_its_variable():
    done = anysock("serve", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for words in ("--drain-timeout SECONDS", "ANYSOCK_DRAIN_TIMEOUT", "default: 10s", "chargen"):
        assert words in text


def test_the_version():
    import anysock as package
    from anysock.machine import compiled

    version = f"anysock, version {package.__version__}\n"
    assert anysock("--version").stdout == f"{version}the path of a message: {compiled.in_words()}\n"
    pure = anysock("--version", env={"ANYSOCK_PURE": "1"}).stdout
    assert pure == f"{version}the path of a message: pure Python (ANYSOCK_PURE is set)\n"
