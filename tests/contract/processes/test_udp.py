"""udp://: echo and discard, and whom they do not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from tests import prepared
from tests.contract.processes.test_workers import workers_of
from tests.harness import ServerProcess, free_port, receive_exactly, wait_until


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def udp(start_server):
    """Start a server with a TCP address, for the harness, and a UDP one."""

    def start(*options: str, handler: str = "echo", host: str = "127.0.0.1", **more):
        port = free_udp_port()
        address = f"[{host}]" if ":" in host else host
        server = start_server(handler, "--bind", f"udp://{address}:{port}", *options, **more)
        server.wait_for(f"listening on udp://.*:{port}")
        server.expected_errors = ["did not answer a datagram"]
        # Those that serve UDP, and the admin endpoint, where they have threads of their own.
        server.base_threads = server.threads()
        return server, port

    return start


def client(port: int, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(15)
    sock.connect((host, port))
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(70_000)


def test_every_datagram_comes_back_as_it_was_until_a_drain(engine, udp):
    server, port = udp(engine=engine)
    with client(port) as sock:
        for size in (0, 1, 1472, 65_507):
            data = os.urandom(size)
            assert ask(sock, data) == data
        # Beside it, TCP is served, even where one client is served at a time.
        with server.connect() as stream:
            stream.sendall(b"tcp")
            assert receive_exactly(stream, 3) == b"tcp"
            assert ask(sock, b"udp") == b"udp"
        # A drain closes it.
        server.signal()
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            for _ in range(3):
                ask(sock, b"x")


def test_it_may_be_all_that_is_served(engine, start_server):
    server = start_server(engine=engine, bind="udp://127.0.0.1:0")
    if engine in ("blocking", "threads"):
        server.base_threads = server.threads()
    with client(int(server.addresses[0].rpartition(":")[2])) as sock:
        assert ask(sock, b"hello") == b"hello"
    server.signal()
    assert server.wait() == 0


def test_ipv6_and_an_answer_from_where_the_request_went(udp):
    _, port = udp(host="::1")
    with client(port, "::1") as sock:
        assert ask(sock, b"hello") == b"hello"
    # Bound to all addresses, the answer comes from the one that was asked: a connected socket takes
    # none from elsewhere.
    _, port = udp(host="0.0.0.0")
    with client(port, "127.0.0.2") as sock:
        assert ask(sock, b"hello") == b"hello"


def test_discard_answers_nothing(udp):
    _, port = udp("-v", handler="discard")
    with client(port) as sock:
        sock.send(b"hello")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(10)


def test_a_reserved_port_is_not_answered(udp):
    server, port = udp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", 1023))
        except PermissionError:
            pytest.skip("only root may bind a port below 1024 here")
        sock.sendto(b"from chargen, says who?", ("127.0.0.1", port))
        server.wait_for(r"did not answer.*1023\): from a reserved port")


def test_our_own_socket_is_not_answered(udp):
    """A datagram that claims to be from the server's own address: here, another socket bound there
    sends it, as nobody else can without forging."""
    server, port = udp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", port))
        sock.sendto(b"I am you", ("127.0.0.1", port))
        server.wait_for("from ourselves")


def test_a_multicast_request_is_not_answered(udp):
    server, port = udp(host="0.0.0.0")
    group = "239.255.12.34"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
            try:
                member.setsockopt(
                    socket.IPPROTO_IP,
                    socket.IP_ADD_MEMBERSHIP,
                    socket.inet_aton(group) + socket.inet_aton("127.0.0.1"),
                )
                sock.sendto(b"hello, all", (group, port))
            except OSError as error:
                pytest.skip(f"no multicast here: {error}")
            # The kernel hands it to all who are bound to any address, once one is a member.
            server.wait_for("to a broadcast or multicast address")


def test_a_broadcast_to_a_network_is_not_answered(udp):
    """“Fraggle”: one forged request, and each host of a network answers. 127.255.255.255 is the
    broadcast address of the loopback network, and looks like a host's."""
    server, port = udp(host="0.0.0.0")
    with client(port, "127.0.0.1") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendmsg([b"hello, all"], [], 0, ("127.255.255.255", port))
        server.wait_for("to a broadcast or multicast address")
        assert ask(sock, b"hello, you") == b"hello, you"


def test_who_is_denied_is_not_answered(udp):
    server, port = udp("--deny", "127.0.0.2")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.sendto(b"let me in", ("127.0.0.1", port))
        server.wait_for("did not answer a datagram from .*: denied")
    with client(port) as sock:
        assert ask(sock, b"x") == b"x"


def test_without_a_free_descriptor_it_goes_on(udp):
    """To find out whether a source is ours takes a descriptor."""
    server, port = udp()
    server.limit_fds(server.fds())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", port))
        sock.sendto(b"am I you?", ("127.0.0.1", port))
        server.wait_for("from ourselves")
    with client(port) as sock:
        assert ask(sock, b"x") == b"x"


def test_what_is_beyond_the_rate_is_refused_and_told_once_a_second(udp):
    server, port = udp("--udp-rate", "50", "--admin", f"127.0.0.1:{(admin := free_port())}")
    with client(port) as sock:
        # No more than the socket's queue holds.
        for _ in range(200):
            sock.send(b"flood")
        wait_until(lambda: figure(admin, "anysock_datagrams_received_total") == 200, "all came")
    refused = figure(admin, 'anysock_datagrams_refused_total{reason="source_rate"}')
    sent = figure(admin, "anysock_datagrams_sent_total")
    assert sent + refused == 200
    assert sent < 100
    assert len(server.matching("too many from its source")) <= 5


def figure(port: int, name: str) -> float:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return 0.0


def test_two_servers_told_to_talk_to_each_other_stop(udp):
    """CERT CA-1996-01, CVE-2024-2169: one forged datagram, and two echo servers without end. No
    test of ports can find that out; the rate ends it."""
    _, port = udp("--udp-rate", "20", "--admin", f"127.0.0.1:{(admin := free_port())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        # The other server, which answers all, as fast as it can: a naive one.
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(1)
        echo.sendto(b"have you heard of me?", ("127.0.0.1", port))
        turns = 0
        with pytest.raises(TimeoutError):
            while True:
                data, source = echo.recvfrom(100)
                echo.sendto(data, source)
                turns += 1
    assert turns <= 4
    assert figure(admin, "anysock_datagrams_sent_total") == turns


def forge(source_port: int, port: int, data: bytes) -> None:
    """Send a datagram from 127.0.0.1 to itself that claims to be from that port."""
    udp_header = struct.pack("!HHHH", source_port, port, 8 + len(data), 0)  # no checksum
    loopback = socket.inet_aton("127.0.0.1")
    length = 20 + len(udp_header) + len(data)
    ip_header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0, loopback, loopback
    )
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(ip_header + udp_header + data, ("127.0.0.1", 0))


def test_two_of_ours_told_to_talk_to_each_other_stop(udp):
    ports, admins = [], []
    for _ in range(2):
        admins.append(free_port())
        ports.append(udp("--udp-rate", "20", "--admin", f"127.0.0.1:{admins[-1]}")[1])
    try:
        forge(ports[0], ports[1], b"have you heard of me?")
    except PermissionError:
        pytest.skip("only root may forge datagrams (CAP_NET_RAW)")

    def together(name: str) -> float:
        return sum(figure(admin, name) for admin in admins)

    refused = 'anysock_datagrams_refused_total{reason="source_rate"}'
    # There is one datagram on its way; who does not answer it has ended it.
    wait_until(lambda: together(refused), "one of the two has had enough")
    assert together(refused) == 1
    assert 2 <= together("anysock_datagrams_sent_total") <= 6


def test_our_own_port_is_not_answered_whoever_claims_it(udp):
    server, port = udp()
    try:
        forge(port, port, b"I am you")
    except PermissionError:
        pytest.skip("only root may forge datagrams (CAP_NET_RAW)")
    server.wait_for("from ourselves")


def test_workers_share_it(udp):
    server, port = udp("--workers", "2")
    server.base_threads = server.threads()
    server.wait_for("all workers together")
    with client(port) as sock:
        for number in range(20):
            assert ask(sock, b"%d" % number) == b"%d" % number


def test_workers_share_the_rate_however_many_there_are(udp):
    server, port = udp("--workers", "2", "--udp-rate", "40")
    server.wait_for("all workers together")
    server.signal(signal.SIGTTIN)
    server.wait_for("one worker more: 3")
    wait_until(lambda: len(workers_of(server)) == 3, "three workers")
    answered = 0
    with client(port) as sock:
        sock.settimeout(0.001)
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < 1.5:
            sock.send(b"flood")
            with contextlib.suppress(TimeoutError):
                answered += len(sock.recv(10)) // 5
    # (Each of the three has a burst.)
    assert 20 * took <= answered <= 40 * took + 6
    server.base_threads, server.base_fds = server.threads(), server.fds()


def test_a_very_low_rate_is_shared_too(udp):
    server, port = udp("--workers", "2", "--udp-rate", "0.001")
    server.base_threads = server.threads()
    server.wait_for("all workers together")
    with client(port) as sock:
        assert ask(sock, b"x") == b"x"


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return prepared.run(
        [sys.executable, "-m", "anysock", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_can_not_be_served_is_one_line():
    done = serve("lines", "--bind", "udp://127.0.0.1:0")
    assert done.returncode == 2
    assert "only the handlers echo and discard" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        done = serve("--bind", f"udp://127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert "can't listen on udp://127.0.0.1:" in done.stderr
    assert "another program listens there" in done.stderr


def test_it_is_off_unless_asked_for(start_server):
    server: ServerProcess = start_server()
    with client(server.port) as sock, pytest.raises((ConnectionRefusedError, TimeoutError)):
        for _ in range(3):
            ask(sock, b"x")
