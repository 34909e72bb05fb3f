"""`anysock.connect`, and the commands that stand on it, where a name has a dead address or a port
has nobody; over real sockets."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

import anysock
from anysock.engines.current import current_engine
from anysock.engines.sim import here
from anysock.net.addresses import ResolvedAddress
from anysock.net.certificates import client_context
from anysock.tasks import connecting
from tests.harness import PATIENCE, SIMULATED

V4 = socket.AF_INET

ANYSOCK = f"{sys.executable} -m anysock"


@pytest.fixture
def name(monkeypatch):
    """Let the name ``many.example`` have these addresses."""

    def has(*addresses):
        monkeypatch.setattr(
            connecting,
            "resolve",
            lambda *_, **__: [ResolvedAddress(V4, each) for each in addresses],
        )
        return "many.example:7"

    return has


def descriptors(engine):
    """How many are open, beside those that the engine's first run leaves open for the next."""
    anysock.run(anysock.sleep, 0, engine=engine)
    if engine in SIMULATED:
        return len(here.here().sockets)
    return len(os.listdir("/proc/self/fd"))


def test_an_address_that_answers_is_found_behind_a_dead_one(engine, name, dead, refused, alive):
    address = name(dead, refused, alive)

    async def main():
        begun = current_engine().now()
        async with await anysock.connect(address) as connection:
            return connection.peer, current_engine().now() - begun

    before = descriptors(engine)
    peer, seconds = anysock.run(main, engine=engine)
    assert peer == alive
    # The kernel itself would give the dead one up after two minutes.
    assert 0.2 < seconds < PATIENCE
    assert descriptors(engine) == before


def test_a_connect_that_is_given_up_leaves_nothing(engine, name, dead):
    address = name(dead, dead)

    async def main():
        async with anysock.move_on_after(0.3) as scope:
            await anysock.connect(address)
        return scope.fired

    before = descriptors(engine)
    begun = time.monotonic()
    assert anysock.run(main, engine=engine)
    assert time.monotonic() - begun < PATIENCE
    assert descriptors(engine) == before


def test_a_task_that_connects_can_be_cancelled(concurrent_engine, name, dead):
    address = name(dead)

    async def main():
        task = anysock.spawn(anysock.connect(address))
        await anysock.sleep(0.1)
        task.cancel()
        with pytest.raises(BaseException) as caught:
            await task.join()
        return type(caught.value).__name__

    begun = time.monotonic()
    assert "Cancelled" in anysock.run(main, engine=concurrent_engine)
    assert time.monotonic() - begun < PATIENCE


def test_who_is_refused_is_told_by_which_address(engine, name, refused):
    where = f"127.0.0.1:{refused[1]}"

    async def main(address):
        await anysock.connect(address)

    with pytest.raises(ConnectionRefusedError) as caught:
        anysock.run(main, where, engine=engine)
    assert str(caught.value) == f"[Errno 111] Connection refused: '{where}'"
    with pytest.raises(ConnectionRefusedError) as caught:
        anysock.run(main, name(refused, ("127.0.0.2", refused[1])), engine=engine)
    assert str(caught.value) == (
        f"[Errno 111] Connection refused: '{where}, 127.0.0.2:{refused[1]}'"
    )


def test_who_meets_itself_is_refused(engine, monkeypatch):
    """The kernel gives our end a port by chance; here it is the one that nobody listens on."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def unlucky(method):
        def connect(self, address):
            if self.family == V4:
                with contextlib.suppress(OSError):  # EINVAL: bound already
                    self.bind(address)
            return method(self, address)

        return connect

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    monkeypatch.setattr(socket.socket, "connect", unlucky(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", unlucky(connect_ex))

    async def main():
        with pytest.raises(ConnectionRefusedError, match="nobody listens there") as caught:
            await anysock.connect(f"127.0.0.1:{port}")
        assert caught.value.errno == errno.ECONNREFUSED
        assert f"127.0.0.1:{port}" in str(caught.value)

    before = descriptors(engine)
    anysock.run(main, engine=engine)
    assert descriptors(engine) == before
    # And the port is free for whom it belongs to: nothing of it is left in TIME-WAIT.
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_ping_load_and_talk_call_no_dead_port_healthy():
    """With ten ports for both ends, a tenth of the connects meet themselves."""
    alone = ["unshare", "-rn", "sh", "-c"]
    begin = (
        "ip link set lo up && echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range || exit 77"
    )
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) here")
    if subprocess.run([*alone, begin], check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("no network namespace of one's own is permitted here")
    ping = f"{ANYSOCK} ping 127.0.0.1:40006 --connect -i 0.005 -c 60; echo exit=$?"
    load = f"{ANYSOCK} load 127.0.0.1:40006 -c 4 --duration 2s --warmup 0s; echo exit=$?"
    talk = f"for i in $(seq 12); do echo hi | {ANYSOCK} talk 127.0.0.1:40006; done"
    done = subprocess.run(
        [*alone, f"{begin}; {ping}; {load}; {talk}"],
        capture_output=True,
        text=True,
        timeout=8 * PATIENCE,
        check=False,
    )
    told = done.stdout + done.stderr
    assert " 0 received" in told, told
    assert "exit=0" not in told
    assert "Connected to" not in told


def test_the_dot_at_the_end_of_a_name_is_not_asked_for_in_tls(monkeypatch, pki):
    """RFC 6066, 3: the HostName is without it; and no certificate has it."""
    asked = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki.server.both)
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    monkeypatch.setattr(
        connecting, "resolve", lambda *_, **__: [ResolvedAddress(V4, ("127.0.0.1", port))]
    )

    def serve():
        client, _ = listener.accept()
        with client, context.wrap_socket(client, server_side=True) as secure:
            secure.recv(1)

    async def main():
        trust = client_context(str(pki.ca), False, None, None)
        await (await anysock.connect(f"tls://localhost.:{port}", tls=trust)).close()

    with listener:
        listener.settimeout(PATIENCE)
        server = threading.Thread(target=serve)
        server.start()
        anysock.run(main)
        server.join()
    assert asked == ["localhost"]


@pytest.fixture
def resolver(tmp_path):
    """An environment in which ``two.example`` is the addresses that it is given."""

    def lets(*addresses):
        (tmp_path / "sitecustomize.py").write_text(
            "import socket\n"
            "ask = socket.getaddrinfo\n"
            "def getaddrinfo(host, port, *more, flags=0, **named):\n"
            "    if host != 'two.example':\n"
            "        return ask(host, port, *more, flags=flags, **named)\n"
            "    if flags & socket.AI_NUMERICHOST:\n"
            "        raise socket.gaierror(socket.EAI_NONAME, 'a name')\n"
            f"    return [(2, 1, 6, '', each) for each in {addresses!r}]\n"
            "socket.getaddrinfo = getaddrinfo\n"
        )
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return lets


def test_load_goes_on_to_another_address_when_the_one_that_answered_falls_silent(
    start_server, resolver
):
    """It answers one connection; then its backlog is full, so that the kernel drops each SYN."""
    server = start_server()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.settimeout(PATIENCE)

        def answer_once():
            client, _ = listener.accept()
            with client:
                for _ in range(2):
                    knock = stack.enter_context(socket.socket())
                    knock.setblocking(False)
                    knock.connect_ex(listener.getsockname())
                client.sendall(client.recv(64))

        once = threading.Thread(target=answer_once)
        once.start()
        done = subprocess.run(
            f"{ANYSOCK} load two.example:7 -c 1 --churn 1 --messages 20 --json -".split(),
            capture_output=True,
            text=True,
            timeout=8 * PATIENCE,
            env=resolver(listener.getsockname(), ("127.0.0.1", server.port)),
            check=False,
        )
        once.join()
    found = json.loads(done.stdout)
    assert (found["messages"], found["errors"]) == (20, {})


@pytest.mark.parametrize(
    "command",
    [
        ["ping", "two.example:7", "-c", "1"],
        ["load", "two.example:7", "-c", "2", "--messages", "50", "--warmup", "0s"],
        ["talk", "two.example:7"],
    ],
    ids=lambda command: command[0],
)
def test_ping_load_and_talk_reach_a_name_whose_first_address_is_dead(
    command, start_server, resolver, dead
):
    server = start_server()
    environment = resolver(dead, ("127.0.0.1", server.port))
    begun = time.monotonic()
    done = subprocess.run(
        [*ANYSOCK.split(), *command],
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=8 * PATIENCE,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - begun < 2 * PATIENCE
