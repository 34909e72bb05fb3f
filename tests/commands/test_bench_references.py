"""The echo servers in C that others are compared with: they must be servers, and not only fast."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anysock.bench.processes import memory_of
from anysock.bench.servers import all_servers, c_tools, running
from tests.harness import PATIENCE, exchange, receive_exactly, reset, wait_until
from tests.io_uring import needs_io_uring

REFERENCES = ("c-epoll", "c-uring")


@pytest.fixture(scope="module")
def tools():
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        assert not os.environ.get("CI"), "there is no C compiler"
        pytest.skip("there is no C compiler")
    with c_tools() as folder:
        yield folder


@pytest.fixture(params=REFERENCES)
def server(request, tools):
    """Its pid and its port, in turn for each."""
    if request.param == "c-uring":
        needs_io_uring()
    servers = {each.name: each for each in all_servers(tools)}
    assert servers[request.param].why_not is None
    with running(servers[request.param]) as found:
        yield found


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_all_of_it_comes_back(server):
    _, port = server
    data = os.urandom(10_000_000)
    with connect(port) as client:
        assert exchange(client, data) == data


def test_what_slow_readers_do_not_take_is_bounded_and_others_are_served(server):
    pid, port = server
    with contextlib.ExitStack() as stack:
        before = memory_of(pid)
        for _ in range(20):
            greedy = stack.enter_context(connect(port))
            greedy.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                while True:
                    greedy.send(bytes(1 << 20))
        after = memory_of(pid)
        assert before is not None
        assert after is not None
        assert after - before < 20 * 1_000_000
        with connect(port) as other:
            assert exchange(other, b"hello\n") == b"hello\n"
        # Those that begin to read get on.
        greedy.settimeout(PATIENCE)
        assert receive_exactly(greedy, 1_000_000) == bytes(1_000_000)


def test_resets_and_ends_leave_nothing_behind(server):
    pid, port = server
    with connect(port) as client:
        client.sendall(b"hello\n")
        receive_exactly(client, 6)
        before = descriptors(pid)
    for number in range(200):
        client = connect(port)
        client.sendall(b"x" * 100_000)
        if number % 2:
            client.recv(1)
        reset(client)
    for _ in range(200):
        with connect(port) as client:
            assert exchange(client, b"hello\n") == b"hello\n"
    wait_until(lambda: descriptors(pid) < before, "all are closed")


def test_without_io_uring_its_reference_says_so(tools):
    if not (tools / "echo_uring").exists():
        pytest.skip("<linux/io_uring.h> is older than Linux 6.1")
    refusing = Path(__file__).parents[1] / "without_io_uring.py"
    done = subprocess.run(
        [sys.executable, str(refusing), str(tools / "echo_uring"), "0"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("io_uring is not available: Operation not permitted")
    assert done.stdout.count("\n") == 1


def test_without_a_compiler_both_say_so():
    servers = {each.name: each for each in all_servers(None)}
    for name in REFERENCES:
        assert "there is no C compiler" in str(servers[name].why_not)
