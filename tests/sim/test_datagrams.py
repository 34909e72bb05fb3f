"""Datagrams between hosts: sent, refused, lost, doubled, overtaken, kept and overflown."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from anysock.engines.sim import here
from anysock.engines.sim.faults import parse
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network
from anysock.engines.sim.udp import UdpSocket


@pytest.fixture(autouse=True)
def _nobodys_turn() -> Iterator[None]:
    before = here.current
    yield
    here.current = before


def hosts(faults: str = "") -> tuple[Network, Host, Host]:
    network = Network(7, parse(faults) if faults else None)
    return network, Host(network, "one"), Host(network, "other")


def bound(host: Host, port: int = 0) -> UdpSocket:
    sock = UdpSocket(host, socket.AF_INET)
    sock.fd = host.open(sock)
    sock.bind((host.addresses[0], port))
    return sock


def send(network: Network, source: UdpSocket, to: UdpSocket, count: int) -> None:
    for number in range(count):
        source.sendmsg([b"%d" % number], (), 0, to.getsockname())
        network.run_until(source.host, network.now + 0.001)


def received(sock: UdpSocket) -> list[int]:
    network = sock.host.network
    network.run_until(sock.host, network.now + 1)
    found = []
    while sock.mask() & 1:
        found.append(int(sock.recv(100)))
    return found


def test_they_take_their_time_to_another_host():
    network, one, other = hosts()
    sender, receiver = bound(one), bound(other)
    sender.sendto(b"hello", receiver.getsockname())
    with pytest.raises(BlockingIOError):
        receiver.recvmsg(100)
    network.run_until(one, 0.01)
    assert receiver.recvmsg(100) == (b"hello", [], 0, (one.addresses[0], 32768))


def test_nobody_there_is_told_to_who_is_connected():
    network, one, other = hosts()
    sender = UdpSocket(one, socket.AF_INET)
    sender.fd = one.open(sender)
    sender.connect((other.addresses[0], 9))
    sender.send(b"anybody?")
    assert not sender.mask() & 8
    network.run_until(one, 0.01)
    assert sender.mask() & 8
    with pytest.raises(ConnectionRefusedError):
        sender.send(b"anybody?")
    assert sender.send(b"again") == 5


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        ("loss=0.3", lambda found: found == sorted(set(found)) and len(found) < 100),
        ("duplicate=0.3", lambda found: set(found) == set(range(100)) and len(found) > 100),
        ("reorder=0.3", lambda found: sorted(found) == list(range(100)) != found),
    ],
)
def test_what_goes_wrong_on_the_way(faults, sent):
    network, one, other = hosts(faults)
    sender, receiver = bound(one), bound(other)
    send(network, sender, receiver, 100)
    found = received(receiver)
    assert sent(found), found
    [kind] = network.chance.fired
    assert faults.startswith(kind)
    # Not within a host, and no more once all is healed.
    neighbour = bound(one)
    send(network, sender, neighbour, 100)
    assert received(neighbour) == list(range(100))
    network.heal()
    send(network, sender, receiver, 100)
    assert received(receiver) == list(range(100))


def test_a_partition_loses_them_and_a_hold_keeps_them():
    network, one, other = hosts()
    sender, receiver = bound(one), bound(other)
    link = network.link(one, other)
    link.stop("partition")
    send(network, sender, receiver, 3)
    link.go_on("partition")
    assert received(receiver) == []
    link.hold()
    send(network, sender, receiver, 3)
    link.release()
    assert received(receiver) == [0, 1, 2]


def test_a_part_of_them_is_lost_if_it_is_asked_for():
    network, one, other = hosts()
    sender, receiver = bound(one), bound(other)
    network.link(one, other).drop = 0.5
    send(network, sender, receiver, 100)
    assert 20 < len(received(receiver)) < 80


def test_who_reads_too_slowly_loses_the_latest():
    network, one, other = hosts()
    sender, receiver = bound(one), bound(other)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    send(network, sender, receiver, 100)
    # As Linux counts them: each takes 832 bytes of the 8,192.
    assert received(receiver) == list(range(9))


def test_a_port_is_one_hosts_own():
    _, one, other = hosts()
    bound(one, 53)
    bound(other, 53)
    with pytest.raises(OSError, match="already in use"):
        bound(one, 53)
    anywhere = UdpSocket(one, socket.AF_INET)
    anywhere.fd = one.open(anywhere)
    with pytest.raises(OSError, match="already in use"):
        anywhere.bind(("0.0.0.0", 53))
    with pytest.raises(OSError, match="Cannot assign requested address"):
        anywhere.bind((other.addresses[0], 54))
