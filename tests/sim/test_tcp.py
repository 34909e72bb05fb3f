"""The simulated TCP between two hosts: what takes time on the way, and what is never lost."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysock.engines.sim import is_compiled
from anysock.engines.sim.faults import parse
from anysock.engines.sim.host import Host, Looker
from anysock.engines.sim.network import Network
from anysock.engines.sim.tcp import TcpSocket

IN, OUT, ERR, HUP = 1, 4, 8, 16
LATENCY = 0.05
LINGER_RESET = (1).to_bytes(4, "little") + bytes(4)
BUFFER = 4096


class Wire:
    """Two hosts, and a listener on one of them."""

    def __init__(self, *, seed: int = 0, faults: str = "", backlog: int = 16) -> None:
        self.network = Network(seed, parse(faults))
        self.one, self.two = Host(self.network, "one"), Host(self.network, "two")
        self.there = self.network.link(self.one, self.two)
        self.back = self.network.link(self.two, self.one)
        if "latency" not in faults:
            self.there.latency = self.back.latency = LATENCY
        self.listener = self.socket(self.two)
        self.small(self.listener)
        self.listener.bind(("0.0.0.0", 7))
        self.listener.listen(backlog)

    def socket(self, host: Host) -> TcpSocket:
        sock = TcpSocket(host, socket.AF_INET)
        sock.fd = host.open(sock)
        return sock

    def small(self, sock: TcpSocket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def client(self) -> TcpSocket:
        sock = self.socket(self.one)
        self.small(sock)
        assert sock.connect_ex((self.two.addresses[0], 7)) == errno.EINPROGRESS
        return sock

    def pair(self) -> tuple[TcpSocket, TcpSocket]:
        client = self.client()
        for _ in range(1000):
            self.run(0.2)
            if self.listener.mask():
                return client, self.listener.accept()[0]
        raise AssertionError("nobody comes")

    def run(self, seconds: float) -> None:
        self.network.run_until(self.one, self.network.now + seconds)

    def until(self, sock: TcpSocket, mask: int, most: float = 10_000.0) -> float:
        """Run until poll(2) finds one of `mask`; how long that took."""
        begin = self.network.now
        while not sock.mask() & mask:
            assert self.network.now < begin + most, "nothing happens"
            self.run(0.01)
        return self.network.now - begin

    def partition(self) -> None:
        for link in (self.there, self.back):
            link.stop("partition")

    def heal(self) -> None:
        for link in (self.there, self.back):
            link.go_on("partition")


def everything(sock: TcpSocket) -> tuple[bytes, str]:
    """What can be read now, and what comes after it."""
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except OSError as error:
        return found, errno.errorcode[error.errno or 0]
    return found, "end"


def fill(sock: TcpSocket) -> int:
    """Write until there is no more room; how much that was."""
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(1000))
        except BlockingIOError:
            return sent


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(OSError) as raised:
        call(*arguments)
    return errno.errorcode[raised.value.errno or 0]


# -- what is sent arrives --------------------------------------------------------------------------

ENDS = st.integers(0, 1)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), ENDS, st.sampled_from([1, 100, 1500, 5000, 70_000])),
    st.tuples(st.just("read"), ENDS, st.sampled_from([1, 100, 5000])),
    st.tuples(st.just("run"), st.floats(0.001, 1.0)),
    st.tuples(st.sampled_from(["stop", "go on"]), ENDS, st.sampled_from(["partition", "hold"])),
    st.tuples(st.just("latency"), ENDS, st.floats(0.0, 0.2)),
)
FAULTS = st.sets(
    st.sampled_from(
        [
            "split", "merge", "jitter", "partial", "short", "zero-window", "small-buffers",
            "latency", "partition", "one-way", "hold", "backlog",
        ]
    ),
    max_size=4,
).map(lambda names: ",".join(sorted(names)))  # fmt: skip


class Stream:
    """One direction: what was written, and what of it was read."""

    def __init__(self, source: TcpSocket, to: TcpSocket) -> None:
        self.source, self.to = source, to
        self.written = self.read = b""
        self.size = 0

    def write(self, size: int) -> None:
        data = bytes((self.size + place) % 251 for place in range(size))
        try:
            sent = self.source.send(data)
        except BlockingIOError:
            return
        assert 0 < sent <= size
        self.size = (self.size + sent) % 251
        self.written += data[:sent]

    def take(self, size: int) -> bool:
        """Whether there was something, or the end has come."""
        try:
            data = self.to.recv(size)
        except BlockingIOError:
            return False
        self.read += data
        return True

    def check(self) -> None:
        assert self.written.startswith(self.read)
        assert 0 <= self.source.unacknowledged() <= max(self.source.sndbuf // 2, 1)
        assert 0 <= self.to.in_size <= self.to.rcvbuf // 2


@given(st.lists(ACTIONS, max_size=30), FAULTS, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_bytes_arrive_equal_and_in_order(actions, faults, seed):
    wire = Wire(seed=seed, faults=faults)
    one, two = wire.pair()
    streams = Stream(one, two), Stream(two, one)
    links = wire.there, wire.back
    for name, *arguments in actions:
        if name == "run":
            wire.run(arguments[0])
        elif name == "write":
            streams[arguments[0]].write(arguments[1])
        elif name == "read":
            streams[arguments[0]].take(arguments[1])
        elif name == "stop":
            links[arguments[0]].stop(arguments[1])
        elif name == "go on":
            links[arguments[0]].go_on(arguments[1])
        else:
            links[arguments[0]].latency = arguments[1]
        for stream in streams:
            stream.check()
    wire.network.heal()
    one.shutdown(socket.SHUT_WR)
    two.shutdown(socket.SHUT_WR)
    for _ in range(2000):
        if all(stream.to.ended and not stream.to.in_size for stream in streams):
            break
        wire.run(0.1)
        for stream in streams:
            stream.take(5000)
    for stream in streams:
        assert stream.read == stream.written
        assert stream.to.recv(1) == b""
    wire.run(1.0)
    assert [sock.mask() for sock in (one, two)] == [IN | OUT | HUP] * 2
    assert [sock.unacknowledged() for sock in (one, two)] == [0, 0]


def test_what_is_sent_later_does_not_arrive_sooner():
    wire = Wire()
    client, server = wire.pair()
    wire.there.latency = 0.5
    client.send(b"slow")
    wire.there.latency = 0.01
    client.send(b"fast")
    wire.run(0.4)
    assert everything(server) == (b"", "EAGAIN")
    wire.run(0.2)
    assert everything(server) == (b"slowfast", "EAGAIN")


# -- buffers and the window ------------------------------------------------------------------------


def test_what_is_on_its_way_is_not_acknowledged():
    wire = Wire()
    client, server = wire.pair()
    client.send(b"hello")
    assert client.unacknowledged() == 5
    wire.run(1.5 * LATENCY)
    assert server.recv(10) == b"hello"
    assert client.unacknowledged() == 5
    wire.run(LATENCY)
    assert client.unacknowledged() == 0


def test_a_closed_window_stops_the_sender():
    wire = Wire()
    client, server = wire.pair()
    sent = 0
    for _ in range(20):
        sent += fill(client)
        wire.run(1.0)
    # What the one may receive, and the other keep.
    assert server.in_size == BUFFER
    assert sent == 2 * BUFFER
    assert client.unacknowledged() == BUFFER

    server.recv(10)
    wire.run(10.0)
    assert server.in_size == BUFFER - 10, "a few bytes of room are not told"
    server.recv(BUFFER // 2)
    wire.run(1.9 * LATENCY)
    assert server.in_size < BUFFER // 2, "it takes the news, and the data, a latency each"
    wire.run(0.2 * LATENCY)
    assert server.in_size > BUFFER // 2
    assert len(everything(server)[0]) > BUFFER // 2
    wire.until(client, OUT, 1.0)


def test_a_window_that_opens_during_a_partition_is_told_after_it():
    wire = Wire()
    client, server = wire.pair()
    fill(client)
    wire.run(1.0)
    fill(client)
    wire.partition()
    everything(server)
    wire.run(5.0)
    assert not client.mask() & OUT
    wire.heal()
    wire.until(client, OUT, 10.0)


def test_what_is_written_as_room_comes_goes_behind_what_waited_for_it():
    wire = Wire()
    client, server = wire.pair()
    client.send(bytes(BUFFER))
    wire.run(1.0)
    client.send(b"first")
    everything(server)
    # The news of the room is there, and nobody has looked yet.
    wire.network.now += 2 * LATENCY
    client.send(b"second")
    wire.run(1.0)
    assert everything(server) == (b"firstsecond", "EAGAIN")


def test_a_socket_is_writable_while_a_third_of_its_buffer_is_free():
    wire = Wire()
    client, _ = wire.pair()
    wire.partition()
    client.send(bytes(2 * BUFFER // 3 - 1))
    assert client.mask() == OUT
    client.send(b"xxx")
    assert client.mask() == 0
    assert client.send(bytes(BUFFER)) == BUFFER - 2 * BUFFER // 3 - 2


class Looks(Looker):
    """A poller that counts how often it is told to look."""

    def __init__(self) -> None:
        self.count = 0

    def look(self, fd: int) -> None:
        self.count += 1


@pytest.mark.skipif(is_compiled, reason="what mypyc has compiled has no subclasses in Python")
def test_a_poller_is_told_of_room_and_of_data_and_of_the_end():
    wire = Wire()
    client, server = wire.pair()
    fill(client)
    wire.run(1.0)
    fill(client)
    client.poller = looks = Looks()
    everything(server)
    wire.run(1.0)
    assert looks.count == 1
    server.send(b"data")
    wire.run(1.0)
    assert looks.count == 2
    server.close()
    wire.run(1.0)
    assert looks.count == 3


# -- the handshake ---------------------------------------------------------------------------------


def test_a_syn_goes_again_until_it_gets_through():
    wire = Wire()
    wire.partition()
    client = wire.client()
    wire.run(4.0)
    wire.heal()
    # At 0, 1, 3 and 7 seconds.
    assert 2.9 < wire.until(client, OUT) < 3.2
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("way", ["there", "back"])
def test_who_gets_no_answer_to_a_syn_gives_up_after_two_minutes(way):
    wire = Wire()
    getattr(wire, way).stop("partition")
    client = wire.client()
    assert 126.9 < wire.until(client, ERR) < 127.2
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT


def test_an_answer_to_a_syn_that_is_lost_makes_no_second_connection():
    wire = Wire()
    wire.back.stop("partition")
    client = wire.client()
    wire.run(0.5)
    wire.back.go_on("partition")
    wire.until(client, OUT)
    wire.run(1.0)
    wire.listener.accept()
    assert code_of(wire.listener.accept) == "EAGAIN"
    assert len(wire.two.ports.owners(7)) == 2, "who listens, and who was accepted"


def test_a_listener_that_closes_in_the_middle_of_a_handshake_resets_the_client():
    wire = Wire()
    client = wire.client()
    wire.run(2.5 * LATENCY)
    assert client.mask() == OUT
    wire.listener.close()
    wire.run(1.0)
    assert everything(client) == (b"", "ECONNRESET")


def test_who_connects_at_once_may_be_connected_before_there_is_room_for_them():
    wire = Wire(backlog=0)
    clients = [wire.client() for _ in range(3)]
    wire.run(0.5)
    # All of them were answered before the first was in the backlog.
    assert [client.mask() for client in clients] == [OUT] * 3
    for piece in (b"he", b"ll", b"o"):
        clients[1].send(piece)
        wire.run(0.2)
    served = []
    for _ in range(3):
        wire.until(wire.listener, IN, 20.0)
        served.append(wire.listener.accept()[0])
    assert {sock.peer for sock in served} == {client.local for client in clients}
    assert [everything(sock)[0] for sock in served].count(b"hello") == 1
    wire.run(1.0)
    assert clients[1].unacknowledged() == 0


def test_who_finds_no_room_for_a_minute_is_forgotten():
    wire = Wire(backlog=0)
    clients = [wire.client() for _ in range(2)]
    wire.run(70.0)
    wire.listener.accept()
    assert code_of(wire.listener.accept) == "EAGAIN"
    assert [client.mask() for client in clients] == [OUT] * 2
    clients[1].send(b"hello")
    wire.run(1.0)
    assert everything(clients[1]) == (b"", "ECONNRESET")


# -- peers that are gone ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_what_is_never_acknowledged_is_given_up_after_a_quarter_of_an_hour(way):
    wire = Wire()
    client, _ = wire.pair()
    for each in ("there", "back"):
        if way in (each, "both"):
            getattr(wire, each).stop("partition")
    client.send(b"hello")
    assert 924 < wire.until(client, ERR) < 926
    assert everything(client) == (b"", "ETIMEDOUT")
    assert code_of(client.send, b"x") == "EPIPE"


def test_a_partition_that_ends_in_time_is_survived():
    wire = Wire()
    client, server = wire.pair()
    wire.partition()
    client.send(b"hello")
    wire.run(800.0)
    wire.heal()
    wire.run(300.0)
    assert everything(server) == (b"hello", "EAGAIN")
    assert client.mask() == OUT
    assert client.unacknowledged() == 0


def keep_alive(sock: TcpSocket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_keepalive_ends_an_idle_connection_whose_peer_is_gone(way):
    wire = Wire()
    client, _ = wire.pair()
    keep_alive(client)
    wire.run(100.0)
    for each in ("there", "back"):
        if way in (each, "both"):
            getattr(wire, each).stop("partition")
    assert 20 < wire.until(client, ERR) < 62
    assert everything(client) == (b"", "ETIMEDOUT")


def test_keepalive_counts_from_what_was_last_heard():
    wire = Wire()
    client, server = wire.pair()
    keep_alive(client)
    wire.run(20.0)
    server.send(b"hello")
    wire.run(1.0)
    wire.partition()
    assert 58 < wire.until(client, ERR) < 60


def test_keepalive_is_content_with_a_partition_that_ends():
    wire = Wire()
    client, _ = wire.pair()
    keep_alive(client)
    wire.partition()
    wire.run(45.0)
    wire.heal()
    wire.run(1000.0)
    assert client.mask() == OUT


def test_without_keepalive_an_idle_connection_never_ends():
    wire = Wire()
    client, _ = wire.pair()
    wire.partition()
    wire.run(10_000.0)
    assert client.mask() == OUT


def test_a_reset_that_is_lost_is_found_out_by_who_speaks():
    wire = Wire()
    client, server = wire.pair()
    wire.partition()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    server.close()
    wire.run(1.0)
    wire.heal()
    wire.run(100.0)
    assert client.mask() == OUT
    client.send(b"are you there?")
    wire.run(1.0)
    assert everything(client) == (b"", "ECONNRESET")


@pytest.mark.parametrize("full", [False, True], ids=["one segment", "a full window"])
def test_a_reset_that_is_lost_comes_again_with_what_is_sent_again(full):
    """What it answers was not acknowledged, or could not even leave."""
    wire = Wire()
    client, server = wire.pair()
    wire.back.stop("partition")
    fill(client) if full else client.send(b"hello")
    server.close()
    wire.run(1.0)
    assert client.mask() & ERR == 0
    wire.back.go_on("partition")
    assert wire.until(client, ERR) < 2
    assert everything(client) == (b"", "ECONNRESET")


def test_a_reset_that_is_lost_comes_again_when_both_ways_are_open():
    wire = Wire()
    client, server = wire.pair()
    wire.back.stop("partition")
    client.send(b"hello")
    wire.run(0.01)
    server.close()
    wire.run(1.0)
    wire.there.stop("partition")
    wire.back.go_on("partition")
    wire.run(10.0)
    assert client.mask() & ERR == 0
    wire.there.go_on("partition")
    wire.until(client, ERR)
    assert everything(client) == (b"", "ECONNRESET")


def test_what_is_lost_before_a_reset_leaves_no_gap():
    """Of two segments, one waits to be sent again: without it the other can't be read."""
    wire = Wire()
    client, server = wire.pair()
    wire.back.hold()
    server.send(b"first ")
    server.send(b"second")
    wire.run(1.0)
    wire.back.release()
    wire.run(0.01)
    wire.back.stop("partition")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    server.close()
    wire.back.go_on("partition")
    wire.until(client, ERR)
    assert everything(client) == (b"", "ECONNRESET")


def test_where_each_reset_is_lost_the_connection_is_given_up():
    wire = Wire()
    client, server = wire.pair()
    client.send(b"hello")
    wire.back.stop("partition")
    server.close()
    assert 924 < wire.until(client, ERR) < 926
    assert everything(client) == (b"", "ETIMEDOUT")


def test_a_reset_that_is_held_comes_later():
    wire = Wire()
    client, server = wire.pair()
    server.send(b"last words")
    wire.back.hold()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    server.close()
    wire.run(1.0)
    wire.back.release()
    wire.run(1.0)
    assert everything(client) == (b"last words", "ECONNRESET")


def test_what_is_lost_before_a_reset_is_not_sent_again():
    wire = Wire()
    client, server = wire.pair()
    wire.back.stop("partition")
    server.send(b"lost")
    wire.run(1.0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    server.close()
    wire.back.go_on("partition")
    wire.run(1.0)
    assert everything(client) == (b"", "ECONNRESET")


def test_an_end_that_is_lost_is_sent_again():
    wire = Wire()
    client, server = wire.pair()
    wire.partition()
    server.send(b"last words")
    server.close()
    wire.run(1.0)
    wire.heal()
    wire.run(2.0)
    assert everything(client) == (b"last words", "end")


def test_both_may_end_at_once():
    wire = Wire()
    client, server = wire.pair()
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    wire.run(1.0)
    for sock in (client, server):
        assert everything(sock) == (b"", "end")
        assert code_of(sock.getpeername) == "ENOTCONN"


def test_linger_of_none_resets_nobody_who_has_heard_all():
    wire = Wire()
    client, server = wire.pair()
    server.shutdown(socket.SHUT_WR)
    wire.run(1.0)
    client.shutdown(socket.SHUT_WR)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    client.close()  # before its end is acknowledged
    wire.run(1.0)
    assert everything(server) == (b"", "end")
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_machine_without_power_knows_nothing_of_its_connections_later():
    wire = Wire()
    client, server = wire.pair()
    quiet, _ = wire.pair()
    keep_alive(quiet)
    wire.partition()
    client.send(b"lost")
    server.vanish()
    wire.listener.vanish()
    for sock in list(wire.two.sockets.values()):
        sock.vanish()
    wire.run(2.0)
    assert client.mask() == OUT
    wire.heal()
    wire.run(40.0)
    assert everything(client) == (b"", "ECONNRESET")
    assert everything(quiet) == (b"", "ECONNRESET")
