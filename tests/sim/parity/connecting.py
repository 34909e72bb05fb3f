"""Scripts on connect(2)."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import HERE, Net
from tests.sim.parity.sock import IN, OUT

_BIND_ADDRESS_NO_PORT = 24


@script
def before_connect(net: Net) -> None:
    sock = net.socket("fresh")
    sock.mask()
    sock.getsockname()
    sock.getpeername()
    sock.read()
    sock.write(b"x")
    sock.mask()
    sock.error()
    sock.shutdown()
    sock.outq()
    sock.listen()  # it is bound to a port by that
    sock.mask()


@script
def accepted(net: Net) -> None:
    listener = net.listener()
    listener.mask()
    client = net.socket("client")
    client.connect(listener)
    client.mask()
    listener.mask()
    client.error()
    client.getpeername()
    client.getsockname()
    server = listener.accept()
    assert server is not None
    listener.mask()
    server.getsockname()
    server.getpeername()
    server.mask()
    server.read()
    client.write(b"hello")
    server.mask()
    server.read()


@script
def sent_before_it_is_accepted(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.write(b"early")
    client.outq()
    server = listener.accept()
    assert server is not None
    server.mask()
    server.read()


@script
def refused(net: Net) -> None:
    gone = net.listener(name="gone")
    address = gone.raw.getsockname()
    gone.close()
    client = net.socket("client")
    client.connect(address)
    client.mask()
    client.error()
    client.error()
    client.mask()
    client.getpeername()
    client.read()
    client.write(b"x")
    client.shutdown()


@script
def refused_then_read(net: Net) -> None:
    gone = net.listener(name="gone")
    address = gone.raw.getsockname()
    gone.close()
    client = net.socket("client")
    client.connect(address)
    client.read()
    client.read()
    client.error()


@script
def refused_then_written(net: Net) -> None:
    gone = net.listener(name="gone")
    address = gone.raw.getsockname()
    gone.close()
    client = net.socket("client")
    client.connect(address)
    client.write(b"x")
    client.write(b"x")
    client.error()


@script
def refused_then_connected_again(net: Net) -> None:
    gone = net.listener(name="gone")
    address = gone.raw.getsockname()
    gone.close()
    client = net.socket("client")
    client.connect(address)
    client.connect(address)
    listener = net.listener()
    client.connect(listener)
    client.mask()
    client.error()
    client.getpeername()


@script
def bound_but_not_listening(net: Net) -> None:
    bound = net.socket("bound")
    bound.bind()
    client = net.socket("client")
    client.connect(bound)
    client.error()


@script
def connected_twice(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.connect(listener)
    client.connect(listener)
    client.error()
    server = listener.accept()
    assert server is not None
    server.connect(listener)
    listener.connect(listener)


@script
def connected_to_a_listener_that_closes(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.mask()
    listener.close()
    client.mask()
    client.getpeername()
    client.read()
    client.read()
    client.write(b"x")
    client.error()


@script
def backlog_full(net: Net) -> None:
    listener = net.listener(1)
    clients = [net.client(listener, f"client {number}") for number in range(4)]
    for client in clients:
        client.mask()
        client.error()
        client.getpeername()
    late = clients[3]
    late.connect(listener)
    late.read()
    late.write(b"x")
    late.getsockname()
    late.outq()
    for _ in range(3):
        listener.accept()
    late.mask()


@script
def backlog_of_none(net: Net) -> None:
    listener = net.listener(0)
    for number in range(3):
        client = net.client(listener, f"client {number}")
        client.mask()


@script
def backlog_has_room_again(net: Net) -> None:
    listener = net.listener(0)
    net.client(listener, "first")
    second = net.client(listener, "second")
    second.mask()
    listener.accept()
    listener.accept()
    second.wait(OUT)  # the SYN goes again after a second
    second.error()
    listener.accept()


@script
def given_up_while_the_backlog_is_full(net: Net) -> None:
    listener = net.listener(0)
    net.client(listener, "first")
    second = net.client(listener, "second")
    second.close()
    listener.accept()
    listener.accept()


@script
def shut_down_while_the_backlog_is_full(net: Net) -> None:
    listener = net.listener(0)
    net.client(listener, "first")
    second = net.client(listener, "second")
    second.shutdown()
    second.mask()
    second.error()
    second.read()
    second.write(b"x")


@script
def listener_closes_while_its_backlog_is_full(net: Net) -> None:
    listener = net.listener(0)
    net.client(listener, "first")
    second = net.client(listener, "second")
    listener.close()
    second.mask()
    second.wait(OUT)
    second.error()


@script
def from_a_bound_address(net: Net) -> None:
    listener = net.listener()
    client = net.socket("client")
    client.bind()
    client.getsockname()
    client.connect(listener)
    client.getsockname()
    server = listener.accept()
    assert server is not None
    server.getpeername()


@script
def from_an_address_whose_port_is_chosen_late(net: Net) -> None:
    listener = net.listener()
    client = net.socket("client")
    client.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    client.bind((HERE, 0))
    client.getsockname()
    client.connect(listener)
    client.getsockname()
    server = listener.accept()
    assert server is not None
    server.getpeername()


@script
def from_a_port_that_is_taken(net: Net) -> None:
    listener = net.listener()
    first = net.client(listener, "first")
    client = net.socket("client")
    client.bind(first)
    reusing = net.socket("reusing")
    reusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reusing.bind(first)
    reusing.bind()


@script
def from_the_port_of_another_connection(net: Net) -> None:
    listener, elsewhere = net.listener(), net.listener(name="elsewhere")
    first = net.socket("first")
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind()
    second = net.socket("second")
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    second.bind(first)
    first.connect(listener)
    second.connect(listener)
    second.connect(elsewhere)
    second.mask()
    listener.accept()
    elsewhere.accept()


@script
def to_itself(net: Net) -> None:
    sock = net.socket("sock")
    sock.bind()
    sock.connect(sock)
    sock.mask()
    sock.getpeername()
    sock.write(b"echo")
    sock.read()
    sock.shutdown()
    sock.read()
    sock.mask()


@script
def to_any_address(net: Net) -> None:
    listener = net.listener(address=("0.0.0.0", 0))
    listener.getsockname()
    _, port = listener.raw.getsockname()
    client = net.socket("client")
    client.connect((HERE, port))
    client.getpeername()
    server = listener.accept()
    assert server is not None
    server.getsockname()
    other = net.socket("other")
    other.connect(("0.0.0.0", port))
    other.getpeername()
    other.getsockname()


@script
def to_a_port_of_udp(net: Net) -> None:
    udp = net.socket("udp", kind=socket.SOCK_DGRAM)
    udp.bind()
    client = net.socket("client")
    client.connect(udp)
    client.error()


@script
def over_ipv6(net: Net) -> None:
    listener = net.listener(address=("::1", 0), family=socket.AF_INET6)
    listener.getsockname()
    client = net.socket("client", socket.AF_INET6)
    client.getsockname()
    client.connect(listener)
    server = listener.accept()
    assert server is not None
    server.getpeername()
    client.getpeername()
    server.write(b"six")
    client.wait(IN)
    client.read()


@script
def over_ipv6_and_ipv4_side_by_side(net: Net) -> None:
    six = net.listener(address=("::", 0), family=socket.AF_INET6)
    port = six.raw.getsockname()[1]
    four = net.socket("four")
    four.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    four.bind(("0.0.0.0", port))
    four.listen()
    client = net.socket("client")
    client.connect((HERE, port))
    four.accept()
    six.accept()


@script
def connected_again_after_a_reset(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    server = listener.accept()
    assert server is not None
    client.connect(listener)
    server.reset()
    client.connect(listener)
    client.read()
    client.connect(listener)


@script
def connected_again_after_a_reset_that_was_not_asked_about(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    server = listener.accept()
    assert server is not None
    server.reset()
    client.connect(listener)


@script
def connected_again_after_both_ends(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    server = listener.accept()
    assert server is not None
    server.shutdown()
    client.shutdown()
    client.read()
    client.connect(listener)
    server.connect(listener)
