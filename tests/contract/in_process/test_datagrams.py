"""UDP sockets under each engine: `anysock.engines.posix.datagrams`."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from types import ModuleType

import pytest

from anysock import Cancelled, move_on_after, run, sleep, spawn
from anysock.engines.base import Datagrams
from anysock.engines.blocking import streams as blocking
from anysock.engines.current import current_engine
from anysock.engines.posix.datagrams import open_datagrams
from anysock.engines.posix.machine import MACHINE
from anysock.errors import StreamClosed
from anysock.tasks.connecting import connect_datagrams
from tests.harness import PATIENCE, wait_until


@pytest.fixture
def peer(net: ModuleType) -> Iterator[socket.socket]:
    with net.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(15)
        yield sock


def address_of(sock: socket.socket) -> str:
    return f"udp://127.0.0.1:{sock.getsockname()[1]}"


def bound(host: str) -> Datagrams:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return current_engine().open_datagrams(family, (host, 0))


def test_nobody_is_given_the_port_that_he_sends_to(monkeypatch):
    """The kernel gives our end a port by chance; here it is the one that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        address = holder.getsockname()
    connect, chances = socket.socket.connect, [address]

    def unlucky(self, to):
        if chances:
            self.bind(chances.pop())
        return connect(self, to)

    monkeypatch.setattr(socket.socket, "connect", unlucky)
    with open_datagrams(socket.AF_INET, address, connect=True) as sock:
        assert not chances
        assert sock.getpeername() == address
        assert sock.getsockname() != address
        sock.send(b"is anybody there?")
        sock.settimeout(PATIENCE)
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


def test_who_waits_is_woken_when_it_is_closed(concurrent_engine, peer):
    async def main() -> str:
        datagrams = await connect_datagrams(address_of(peer))
        told = []

        async def receive() -> None:
            try:
                await datagrams.recv()
            except StreamClosed as error:
                told.append(str(error))

        task = spawn(receive())
        await sleep(0.02)
        datagrams.close()
        datagrams.close()
        await task.join()
        return told[0]

    assert "closed" in run(main, engine=concurrent_engine)


def test_a_cancelled_receiver_leaves_nothing_behind(concurrent_engine, peer):
    """asyncio must not go on watching a number that will be that of another socket."""

    async def main() -> bytes:
        for _ in range(3):
            datagrams = await connect_datagrams(address_of(peer))

            async def receive(datagrams: Datagrams = datagrams) -> None:
                with contextlib.suppress(StreamClosed):
                    await datagrams.recv()

            task = spawn(receive())
            await sleep(0.02)
            task.cancel()
            datagrams.close()  # before the task has run again
            with contextlib.suppress(Cancelled):
                await task.join()
        datagrams = await connect_datagrams(address_of(peer))
        local = datagrams.local

        async def answer() -> None:
            await sleep(0.02)
            peer.sendto(b"for you", local)

        spawn(answer())
        async with move_on_after(10):
            received = (await datagrams.recv()).data
        datagrams.close()
        return received

    assert run(main, engine=concurrent_engine) == b"for you"


def test_a_receiver_waits_no_longer_than_it_may(engine, peer):
    async def main() -> tuple[bool, bytes]:
        datagrams = await connect_datagrams(address_of(peer))
        async with move_on_after(0.02) as scope:
            await datagrams.recv()
        # It can be used as before.
        datagrams.send(b"hello")
        peer.sendto(*peer.recvfrom(10))
        received = (await datagrams.recv()).data
        datagrams.close()
        with pytest.raises(StreamClosed):
            await datagrams.recv()
        with pytest.raises(StreamClosed):
            datagrams.send(b"too late")
        return scope.fired, received

    assert run(main, engine=engine) == (True, b"hello")


def test_it_is_who_receives_that_is_told_of_a_refusal(engine, peer):
    """The system tells whoever comes first, and does not send what they meant to send."""
    address = address_of(peer)
    peer.close()

    async def main() -> int:
        datagrams = await connect_datagrams(address)
        for _ in range(4):
            datagrams.send(b"is anybody there?")
        refused = 0
        async with move_on_after(0.1):
            while True:
                try:
                    await datagrams.recv()
                except ConnectionRefusedError:
                    refused += 1
        datagrams.close()
        return refused

    assert run(main, engine=engine) >= 1


@pytest.mark.parametrize(
    ("host", "sent_to", "destination", "to_many"),
    [
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.2", "127.0.0.2", False),
        ("127.0.0.3", "127.0.0.3", "127.0.0.3", False),
        ("0.0.0.0", "127.255.255.255", "127.255.255.255", True),
        ("0.0.0.0", "255.255.255.255", "255.255.255.255", True),
        ("::", "::1", "::1", False),
    ],
)
def test_where_a_datagram_was_sent_to_is_known(host, sent_to, destination, to_many):
    """The broadcast address of a network, here 127.255.255.255, looks like that of a host."""

    async def main() -> None:
        datagrams = bound(host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            if to_many:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                # Over the loopback interface, whatever others there are.
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            sender.sendto(b"x", (sent_to, datagrams.local[1]))
            async with move_on_after(10):
                datagram = await datagrams.recv()
            assert (datagram.destination, datagram.to_many) == (destination, to_many)
            if not to_many:
                datagrams.send(b"y", datagram.source, datagram.origin)
                sender.settimeout(10)
                assert sender.recvfrom(10) == (b"y", (sent_to, *datagrams.local[1:]))
        datagrams.close()

    run(main)


def test_the_largest_datagrams_come_whole():
    async def main(host: str, size: int) -> int:
        datagrams = bound(host)
        datagrams.send(os.urandom(size), datagrams.local)
        received = len((await datagrams.recv()).data)
        datagrams.close()
        return received

    assert run(main, "127.0.0.1", 65_507) == 65_507
    assert run(main, "::1", 65_527) == 65_527


def test_our_own_addresses_are_known():
    assert MACHINE.is_ours(("127.0.0.1", 7000))
    assert MACHINE.is_ours(("127.1.2.3", 7000))
    assert MACHINE.is_ours(("::1", 7000, 0, 0))
    assert not MACHINE.is_ours(("203.0.113.1", 7000))
    assert not MACHINE.is_ours(("2001:db8::1", 7000, 0, 0))
    # Somebody else's on a link of ours: without its scope, nobody's.
    assert not MACHINE.is_ours(("fe80::1234:5678:9abc:def1", 7000, 0, socket.if_nametoindex("lo")))


def test_our_own_link_local_address_is_known():
    with open("/proc/net/if_inet6") as file:  # address, index, …, name
        lines = [line.split() for line in file]
    ours = [(bytes.fromhex(line[0]), int(line[1], 16)) for line in lines if line[0][:3] == "fe8"]
    if not ours:
        pytest.skip("no link-local address here")
    for address, scope in ours:
        assert MACHINE.is_ours((socket.inet_ntop(socket.AF_INET6, address), 7000, 0, scope))


def test_where_nothing_can_be_found_out_it_is_ours(monkeypatch):
    def no_descriptor(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", no_descriptor)
    assert MACHINE.is_ours(("203.0.113.1", 7000))


def test_a_socket_that_a_thread_uses_is_closed_by_that_thread(peer):
    """Closed by another, the number of its descriptor might be another's when it is used."""

    async def main() -> None:
        datagrams = await connect_datagrams(address_of(peer))
        assert isinstance(datagrams, blocking.BlockingDatagrams)
        sock = datagrams._sock
        asleep = datagrams._until_readable
        open_after_close = []

        async def until_readable() -> None:
            await asleep()
            open_after_close.append(sock.fileno() >= 0)

        datagrams._until_readable = until_readable  # type: ignore[method-assign]

        async def receive() -> None:
            with pytest.raises(StreamClosed):
                await datagrams.recv()

        task = spawn(receive())
        wait_until(lambda: datagrams._users, "it sleeps")
        datagrams.close()
        await task.join()
        assert open_after_close == [True]
        assert sock.fileno() == -1

    run(main, engine="threads")
