"""Where a server listens: Unix sockets, descriptors that others have opened, several at once."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import prepared
from tests.harness import (
    CONCURRENT_ENGINES,
    STRICT,
    ServerProcess,
    exchange,
    receive_all,
    receive_exactly,
    wait_until,
)


def connect_unix(path: Path | str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(15)
    client.connect(str(path))
    return client


def served(client: socket.socket) -> bool:
    with client:
        return exchange(client, b"hello" * 100) == b"hello" * 100


def refused(*arguments: str, code: int = 1, environment: Mapping[str, str] = {}) -> str:
    """``anysock serve`` that does not start: its one line."""
    done = prepared.run(
        [sys.executable, "-m", "anysock", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    line: str
    [line] = done.stderr.splitlines()
    return line


# -- Unix sockets ----------------------------------------------------------------------------------


def test_a_unix_socket_is_served_and_removed_at_the_end(engine, start_server, tmp_path):
    path = tmp_path / "echo"
    server: ServerProcess = start_server(engine=engine, bind=f"unix://{path}?mode=600")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert served(connect_unix(path))
    server.wait_for("I got a connection from unix")
    server.signal()
    assert server.wait() == 0
    assert not path.exists()


def test_a_drain_over_a_unix_socket(engine, start_server, tmp_path):
    path = tmp_path / "echo"
    server = start_server(engine=engine, bind=f"unix://{path}")
    with connect_unix(path) as quiet:
        quiet.sendall(b"hello")
        receive_exactly(quiet, 5)
        server.signal()
        assert receive_all(quiet) == b""
    assert server.wait() == 0


def test_what_a_dead_server_has_left_is_replaced(start_server, tmp_path):
    path = tmp_path / "echo"
    server = start_server(bind=f"unix://{path}", expected_code=-signal.SIGKILL)
    server.signal(signal.SIGKILL)
    server.wait()
    assert path.exists()
    start_server(bind=f"unix://{path}")
    assert served(connect_unix(path))


def test_a_live_server_is_not_replaced(start_server, tmp_path):
    path = tmp_path / "echo"
    start_server(bind=f"unix://{path}")
    line = refused("--bind", f"unix://{path}")
    assert line == (
        f"anysock: can't listen on unix://{path}: Address already in use: another program listens "
        "there; stop it, or choose another path"
    )
    assert served(connect_unix(path))


def test_another_s_file_is_left_alone(start_server, tmp_path):
    path = tmp_path / "echo"
    path.write_text("precious")
    assert "a file is there that is no socket" in refused("--bind", f"unix://{path}")
    assert path.read_text() == "precious"
    assert "there is no such folder" in refused("--bind", f"unix://{tmp_path}/none/echo")


def test_the_file_of_who_has_replaced_us_is_left_alone(start_server, tmp_path):
    path = tmp_path / "echo"
    first = start_server(bind=f"unix://{path}")
    path.unlink()
    start_server(bind=f"unix://{path}")
    first.signal()
    assert first.wait() == 0
    assert served(connect_unix(path))


def test_an_abstract_socket(start_server):
    name = f"anysock-test-{os.getpid()}"
    start_server(bind=f"unix://@{name}")
    assert served(connect_unix(f"\0{name}"))


# -- descriptors that others have opened -----------------------------------------------------------


def test_an_inherited_socket_is_served(engine, start_server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        server = start_server(engine=engine, bind=f"fd://{fd}", pass_fds=(fd,))
        assert served(socket.create_connection(listener.getsockname(), timeout=15))
        server.signal()
        assert server.wait() == 0
        # It is still open here: whoever connects now waits for the next server.
        with socket.create_connection(listener.getsockname(), timeout=15) as client:
            client.sendall(b"hello")
            start_server(engine=engine, bind=f"fd://{fd}", pass_fds=(fd,))
            assert receive_exactly(client, 5) == b"hello"


def test_what_waits_in_the_backlog_is_left_to_others(engine, start_server):
    """Over a restart nobody is refused: who has connected is the next one's."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        fd, address = listener.fileno(), listener.getsockname()
        first = start_server(engine=engine, bind=f"fd://{fd}", pass_fds=(fd,))
        with socket.create_connection(address, timeout=15) as served_by_it:
            served_by_it.sendall(b"x")
            receive_exactly(served_by_it, 1)
            # Stopped, it can't accept; so these wait in the backlog when it is told to end.
            first.signal(signal.SIGSTOP)
            waiting = [socket.create_connection(address, timeout=15) for _ in range(10)]
            for client in waiting:
                client.sendall(b"hello")
            first.signal()
            first.signal(signal.SIGCONT)
            receive_all(served_by_it)
        assert first.wait() == 0
        # Some it may have accepted before it heard of its end; these it has answered.
        start_server(engine=engine, bind=f"fd://{fd}", pass_fds=(fd,))
        for client in waiting:
            with client:
                assert receive_exactly(client, 5) == b"hello"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda tmp: os.open(os.devnull, os.O_RDONLY), "it is no socket"),
        (lambda tmp: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), "no stream socket"),
        (lambda tmp: socket.socket().detach(), "it does not listen"),
    ],
    ids=["file", "datagrams", "not-listening"],
)
def test_what_can_not_be_served_is_one_line(tmp_path, make, says):
    fd = make(tmp_path)
    try:
        done = prepared.run(
            [sys.executable, *STRICT, "-m", "anysock", "serve", "--bind", f"fd://{fd}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            pass_fds=(fd,),
        )
    finally:
        os.close(fd)
    assert done.returncode == 1
    assert done.stderr.startswith(f"anysock: can't listen on fd://{fd}: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_descriptor_that_is_not_there_is_one_line():
    assert refused("--bind", "fd://77") == (
        "anysock: can't listen on fd://77: there is no such descriptor"
    )
    assert "systemd has handed over no socket" in refused("--bind", "systemd://")


# -- several at once -------------------------------------------------------------------------------


def test_several_at_once(engine, start_server, tmp_path):
    path = tmp_path / "echo"
    server = start_server(*("echo", "--bind", f"unix://{path}", "--bind", "[::1]:0"), engine=engine)
    server.base_threads += 2 * (engine == "threads")  # those that accept
    server.wait_for(r"listening on unix://")
    v6 = int(server.wait_for(r"listening on tcp://\[::1\]:(\d+)")[1])
    assert server.ask(b"hello") == b"hello"
    assert served(connect_unix(path))
    assert served(socket.create_connection(("::1", v6), timeout=15))


def test_when_one_can_not_be_had_none_is(tmp_path):
    path = tmp_path / "echo"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--bind", f"unix://{path}", "--bind", f"127.0.0.1:{port}")
    assert "another program listens there" in line
    wait_until(lambda: not path.exists(), "the other is gone again")


# -- what a name stands for ------------------------------------------------------------------------

# A kernel without IPv6, and interfaces that do not have ::1: as the socket module would tell it.
# (And localhost is both, whatever this machine's hosts file says.)
_NOT_HERE = """
import errno, os, socket
class Socket(socket.socket):
    def __init__(self, family=-1, *more, **others):
        if family == socket.AF_INET6 and {no_ipv6}:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *more, **others)
    def bind(self, address):
        if address[0] == "::1":
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        super().bind(address)
socket.socket = Socket
found = socket.getaddrinfo
def getaddrinfo(host, port, *more, **others):
    if host != "localhost" or others.get("flags", 0) & socket.AI_NUMERICHOST:
        return found(host, port, *more, **others)
    return [answer for each in LOCALHOST for answer in found(each, port, *more, **others)]
socket.getaddrinfo = getaddrinfo
LOCALHOST = ["::1", "127.0.0.1"]
"""


@pytest.fixture(params=[False, True], ids=["no ::1", "no IPv6"])
def elsewhere(tmp_path, request):
    """The environment of a process on such a machine; and what is said of ::1 there."""
    (tmp_path / "sitecustomize.py").write_text(_NOT_HERE.format(no_ipv6=request.param))
    code = errno.EAFNOSUPPORT if request.param else errno.EADDRNOTAVAIL
    return {"PYTHONPATH": str(tmp_path)}, os.strerror(code)


@pytest.mark.parametrize("elsewhere", [False], indirect=True, ids=["no ::1"])
def test_of_what_a_name_stands_for_the_rest_is_served(engine, start_server, elsewhere):
    environment, why = elsewhere
    options = ("--admin", "localhost:0")
    server = start_server(
        "echo", *options, engine=engine, bind="localhost:0", environment=environment
    )
    assert server.host == "127.0.0.1"
    assert server.ask(b"hello") == b"hello"
    assert len(server.matching(rf"not listening on tcp://\[::1\]:0: {why}$")) == 1
    server.base_threads += 2 if engine in ("blocking", "threads") else 1
    server.wait_for(r"admin endpoint on http://127\.0\.0\.1:\d+")
    assert len(server.matching(rf"no admin endpoint on tcp://\[::1\]:0: {why}$")) == 1


@pytest.mark.parametrize("elsewhere", [True], indirect=True, ids=["no IPv6"])
def test_without_a_host_it_is_all_that_there_is(engine, start_server, elsewhere):
    server = start_server(engine=engine, bind=":0", environment=elsewhere[0])
    assert server.host == "0.0.0.0"
    server.wait_for(r"not listening on tcp://\[::\]:0: ")


def test_workers_serve_the_rest_and_it_is_told_once(start_server, elsewhere):
    environment, why = elsewhere
    options = ("--workers", "2", "--admin", "localhost:0")
    server = start_server("echo", *options, bind="localhost:0", environment=environment)
    server.wait_for("all workers together")
    server.base_threads = server.threads()
    assert server.ask(b"hello") == b"hello"
    assert len(server.matching(f"not listening on .*{why}$")) == 1
    assert len(server.matching(f"no admin endpoint on .*{why}$")) == 1


def test_over_udp_too(start_server, elsewhere):
    environment, why = elsewhere
    server = start_server("echo", bind="udp://localhost:0", environment=environment)
    server.wait_for(rf"not listening on udp://\[::1\]:0: {why}$")
    assert server.addresses[0].startswith("udp://127.0.0.1:")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_an_address_that_was_written_is_an_error(elsewhere, workers, scheme):
    environment, why = elsewhere
    line = refused(
        *("--workers", workers, "-b", f"{scheme}://[::1]:0", "-b", "127.0.0.1:0"),
        environment=environment,
    )
    assert f"can't listen on {scheme}://[::1]:0: {why}: " in line


@pytest.mark.parametrize("elsewhere", [True], indirect=True, ids=["no IPv6"])
def test_a_name_of_which_nothing_is_left_is_an_error(elsewhere, tmp_path):
    environment, why = elsewhere
    with (tmp_path / "sitecustomize.py").open("a") as file:
        file.write("LOCALHOST = ['::1']\n")
    for workers in ("1", "2"):
        line = refused("--workers", workers, "-b", "localhost:80", environment=environment)
        assert line.endswith(
            f"can't listen on tcp://[::1]:80: {why}: the kernel of this machine has none of its "
            "kind, IPv6"
        )


_CONTAINER = ("unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c")

_LINK_LOCAL = """
import anysock, sys
async def main():
    for scheme, handler in ("tcp", "echo"), ("udp", "echo"):
        async with anysock.Server(handler, bind=f"{scheme}://[fe80::1%lo]:0") as server:
            print(server.addresses[0])
            if scheme == "tcp":
                async with await anysock.connect(server.addresses[0]) as connection:
                    await connection.send_all(b"hello")
                    assert await connection.recv() == b"hello"
for engine in sys.argv[1:]:
    anysock.run(main, engine=engine)
"""


def test_a_link_local_address_can_be_connected_to_as_it_is_told():
    """Without its interface it is no address: EINVAL."""
    prepare = "ip link set lo up && ip addr add fe80::1/64 dev lo nodad"
    command = f'{prepare} && exec {sys.executable} - "$@"'
    done = subprocess.run(
        [*_CONTAINER, command, "sh", *CONCURRENT_ENGINES],
        input=_LINK_LOCAL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare" in done.stderr or "RTNETLINK" in done.stderr:
        pytest.skip(f"no interface of our own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 2 * len(CONCURRENT_ENGINES)
    for tcp, udp in zip(told[::2], told[1::2], strict=True):
        assert re.fullmatch(r"tcp://\[fe80::1%lo\]:\d+", tcp)
        assert re.fullmatch(r"udp://\[fe80::1%lo\]:\d+", udp)


_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
_WITHOUT_IPV6 = (
    "ip link set lo up && mount --bind {hosts} /etc/hosts"
    " && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
)


def test_a_container_whose_hosts_file_promises_more_than_its_interface(tmp_path):
    """Docker's default: the hosts file has ::1, and the interface does not."""
    hosts = tmp_path / "hosts"
    hosts.write_text(_HOSTS)
    prepare = _WITHOUT_IPV6.format(hosts=hosts)
    may = subprocess.run([*_CONTAINER, prepare], capture_output=True, text=True, check=False)
    if may.returncode != 0:
        pytest.skip(f"no namespace of our own: {may.stderr.strip()}")
    command = f"{prepare} && exec {sys.executable} -m anysock serve -b localhost:8007"
    process = subprocess.Popen([*_CONTAINER, command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        first, second = process.stderr.readline(), process.stderr.readline()
        assert "not listening on tcp://[::1]:8007" in first
        assert "listening on tcp://127.0.0.1:8007" in second
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.communicate()
