"""Where a server listens: Unix sockets, descriptors that others have opened, several at once."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import STRICT, ServerProcess, exchange, receive_all, receive_exactly, wait_until


def connect_unix(path: Path | str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(15)
    client.connect(str(path))
    return client


def served(client: socket.socket) -> bool:
    with client:
        return exchange(client, b"hello" * 100) == b"hello" * 100


def refused(*arguments: str, code: int = 1) -> str:
    """``anysock serve`` that does not start: its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "anysock", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
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
        done = subprocess.run(
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
