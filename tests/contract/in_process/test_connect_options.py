"""`anysock.connect` from an address of this machine, and within a time, under every engine."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time

import pytest

import anysock
from anysock.net import addresses
from anysock.net.addresses import Address, ResolvedAddress
from anysock.tasks import connecting
from tests.contract.in_process.conftest import listening
from tests.contract.in_process.test_connect import descriptors
from tests.harness import PATIENCE

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def resolve(monkeypatch):
    """Let every name have these addresses; those that are numbers have their own."""
    resolve = addresses.resolve

    def has(*addresses):
        monkeypatch.setattr(
            connecting,
            "resolve",
            lambda address, *more, **named: (
                list(addresses) if address.is_name else resolve(address, *more, **named)
            ),
        )

    return has


def connected(engine, address, **options):
    """The two ends' addresses of a connection, as its own end says."""

    async def main():
        async with await anysock.connect(address, **options) as connection:
            return connection.local, connection.peer

    return anysock.run(main, engine=engine)


# -- from where ------------------------------------------------------------------------------------


@pytest.mark.parametrize("local", ["127.0.0.2", "127.0.0.2:0", Address("127.0.0.2", 0)], ids=str)
def test_the_peer_sees_the_address_that_was_asked_for(engine, alive, local):
    ours, _ = connected(engine, f"127.0.0.1:{alive[1]}", local=local)
    assert ours[0] == "127.0.0.2"


def test_a_port_can_be_asked_for_again_and_again(engine, alive, net):
    with net.socket() as holder:
        holder.bind(("127.0.0.3", 0))
        port = holder.getsockname()[1]
    for _ in range(2):  # the second time, the first is in TIME-WAIT
        with contextlib.suppress(OSError):
            ours, _ = connected(engine, f"127.0.0.1:{alive[1]}", local=f"127.0.0.3:{port}")
            assert ours == ("127.0.0.3", port)
    assert ours == ("127.0.0.3", port)


def test_an_address_of_ipv6(engine, net):
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(listening(net, ("::1", 0)))
        except OSError:
            pytest.skip("there is no IPv6 here")
        for local in ("::1", "[::1]", "[::1]:0"):
            ours, _ = connected(engine, f"[::1]:{listener.getsockname()[1]}", local=local)
            assert ours[0] == "::1"


def test_an_address_that_is_not_ours_is_named(engine, alive):
    before = descriptors(engine)
    with pytest.raises(
        OSError, match=r"\(from 192\.0\.2\.7 port 0\): '127\.0\.0\.1:\d+'"
    ) as caught:
        connected(engine, f"127.0.0.1:{alive[1]}", local="192.0.2.7")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert descriptors(engine) == before


def test_the_other_family_is_not_tried(engine, alive, resolve):
    v6, v4 = ResolvedAddress(V6, ("::1", 9, 0, 0)), ResolvedAddress(V4, alive)
    tried: list[object] = []
    resolve(v6, v4)
    _, peer = connected(engine, "two.example:7", local="127.0.0.1", trying=tried.append)
    assert tried == [peer] == [alive]
    resolve(v6)
    told = r"it has no address that can be reached from 127\.0\.0\.1: 'v6\.example:7'"
    with pytest.raises(OSError, match=told):
        connected(engine, "v6.example:7", local="127.0.0.1")


@pytest.mark.parametrize(
    "local", ["localhost", "localhost:0", ":5000", "", "unix:///x", "1.2.3.4:x"]
)
def test_what_is_no_address_of_a_machine_is_refused(local):
    with pytest.raises(anysock.UsageError):
        connected("selector", "127.0.0.1:7", local=local)


def test_a_unix_socket_has_no_address_to_connect_from():
    with pytest.raises(anysock.UsageError, match="local= is for addresses of IP"):
        connected("selector", "unix:///run/x", local="127.0.0.1")
    with pytest.raises(anysock.WrongType):
        connected("selector", "127.0.0.1:7", local=5000)


# -- how long --------------------------------------------------------------------------------------


def gives_up(engine, address, **options):
    begun = time.monotonic()
    before = descriptors(engine)
    with pytest.raises(TimeoutError) as caught:
        connected(engine, address, timeout=0.05, **options)
    assert str(caught.value) == f"[Errno 110] not connected after 0.05 seconds: '{address}'"
    assert time.monotonic() - begun < PATIENCE
    assert descriptors(engine) == before


def test_one_that_does_not_answer_is_given_up(engine, dead):
    gives_up(engine, f"127.0.0.1:{dead[1]}")


def test_so_are_several(engine, dead, resolve):
    resolve(ResolvedAddress(V4, dead), ResolvedAddress(V4, ("127.0.0.1", dead[1])))
    gives_up(engine, "many.example:7")


def test_so_is_a_server_that_does_not_shake_hands(engine, alive):
    gives_up(engine, f"tls://127.0.0.1:{alive[1]}")


def test_so_is_a_resolver_that_is_slow(engine, monkeypatch):
    answers = threading.Event()

    def resolve(*_, **__):
        assert answers.wait(PATIENCE)
        return []

    monkeypatch.setattr(connecting, "resolve", resolve)

    async def main():
        try:
            with pytest.raises(TimeoutError, match=r"not connected after 0\.05 seconds: 'slow\.ex"):
                await anysock.connect("slow.example:7", timeout=0.05)
        finally:
            answers.set()

    anysock.run(main, engine=engine)


def test_who_is_in_time_is_connected(engine, alive, resolve):
    resolve(ResolvedAddress(V4, alive))
    assert connected(engine, "quick.example:7", timeout=PATIENCE)[1] == alive
    assert connected(engine, f"127.0.0.1:{alive[1]}", timeout=PATIENCE)[1] == alive


def test_what_fails_in_time_is_told_as_it_is(engine, refused, monkeypatch):
    with pytest.raises(ConnectionRefusedError):
        connected(engine, f"127.0.0.1:{refused[1]}", timeout=PATIENCE)

    def resolve(*_, **__):
        raise anysock.StartError("can't resolve the host 'none.example': it has no name")

    monkeypatch.setattr(connecting, "resolve", resolve)
    with pytest.raises(anysock.StartError, match=r"can't resolve the host 'none\.example'"):
        connected(engine, "none.example:7", timeout=PATIENCE)


def test_a_time_is_a_number():
    with pytest.raises(anysock.WrongType):
        connected("selector", "127.0.0.1:7", timeout="2s")
