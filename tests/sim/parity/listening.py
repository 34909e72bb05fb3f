"""Scripts on sockets that listen, and on accept(2)."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import HERE, Net
from tests.sim.parity.sock import LINGER_RESET


@script
def accept_with_nobody(net: Net) -> None:
    listener = net.listener()
    listener.accept()
    listener.mask()
    fresh = net.socket("fresh")
    fresh.accept()
    client, _ = net.pair()
    client.accept()


@script
def accept_in_order(net: Net) -> None:
    listener = net.listener()
    clients = [net.client(listener, f"client {number}") for number in range(5)]
    for client in clients:
        client.getsockname()
    for number in range(5):
        server = listener.accept(f"server {number}")
        assert server is not None
        server.write(b"you are %d" % number)
    for client in clients:
        client.read()
    listener.accept()


@script
def accept_without_descriptors(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    with net.no_descriptors():
        listener.accept()
        listener.mask()
        listener.accept()
    client.mask()
    listener.accept()
    listener.accept()


@script
def accept_without_descriptors_with_nobody(net: Net) -> None:
    listener = net.listener()
    with net.no_descriptors():
        listener.accept()
        listener.mask()
    listener.accept()


@script
def socket_without_descriptors(net: Net) -> None:
    with net.no_descriptors():
        net.call("socket", net.machine.socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        net.call("socketpair", net.machine.socket.socketpair)


@script
def peer_resets_in_the_backlog(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.reset()
    listener.mask()
    server = listener.accept()
    if server is not None:
        server.mask()
        server.getpeername()
        server.getsockname()
        server.read()
        server.read()
        server.write(b"x")


@script
def peer_resets_in_the_backlog_after_data(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.write(b"said")
    client.reset()
    server = listener.accept()
    assert server is not None
    server.mask()
    server.read()
    server.read()
    server.read()


@script
def peer_ends_in_the_backlog(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    client.write(b"said")
    client.close()
    listener.mask()
    server = listener.accept()
    assert server is not None
    server.getpeername()
    server.mask()
    server.read()
    server.read()
    server.write(b"x")
    server.write(b"x")


@script
def peer_of_the_backlog_is_accepted_after_a_reset_peer(net: Net) -> None:
    listener = net.listener()
    net.client(listener, "first").reset()
    net.client(listener, "second").write(b"second")
    for _ in range(2):
        server = listener.accept()
        assert server is not None
        server.read()


@script
def listener_shut_down(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    listener.shutdown(socket.SHUT_RDWR)
    listener.mask()
    listener.accept()
    client.mask()
    client.read()
    late = net.socket("late")
    late.connect(listener)
    late.error()
    listener.shutdown(socket.SHUT_RDWR)
    listener.listen()
    later = net.socket("later")
    later.connect(listener)
    later.error()
    listener.accept()


@script
def listener_shut_down_for_sending(net: Net) -> None:
    listener = net.listener()
    listener.shutdown(socket.SHUT_WR)
    listener.mask()
    client = net.client(listener)
    client.mask()
    listener.accept()


@script
def listener_shut_down_for_receiving(net: Net) -> None:
    listener = net.listener()
    listener.shutdown(socket.SHUT_RD)
    listener.mask()
    listener.accept()


@script
def listener_closes_with_a_backlog(net: Net) -> None:
    listener = net.listener()
    quiet, speaking = net.client(listener, "quiet"), net.client(listener, "speaking")
    ended = net.client(listener, "ended")
    speaking.write(b"hello")
    ended.shutdown()
    listener.close()
    for client in (quiet, speaking, ended):
        client.mask()
        client.read()
        client.read()
        client.write(b"x")


@script
def listen_again_with_less_room(net: Net) -> None:
    listener = net.listener(16)
    for number in range(3):
        net.client(listener, f"client {number}")
    listener.listen(0)
    late = net.client(listener, "late")
    late.mask()
    for _ in range(4):
        listener.accept()


@script
def listener_is_no_stream(net: Net) -> None:
    listener = net.listener()
    listener.read()
    listener.write(b"x")
    listener.peek()
    listener.getpeername()
    listener.outq()
    listener.error()
    listener.mask()


@script
def listen_without_bind(net: Net) -> None:
    listener = net.socket("listener")
    listener.listen()
    listener.getsockname()
    _, port = listener.raw.getsockname()
    client = net.socket("client")
    client.connect((HERE, port))
    listener.accept()


@script
def listen_on_a_connection(net: Net) -> None:
    client, server = net.pair()
    server.listen()
    client.bind()
    client.mask()


@script
def accepting_is_told(net: Net) -> None:
    listener = net.listener()
    client, server = net.pair()
    bound = net.socket("bound")
    bound.bind()
    for sock in (listener, client, server, bound):
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@script
def accepted_inherits(net: Net) -> None:
    listener = net.socket("listener")
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
    listener.bind()
    listener.listen()
    net.client(listener)
    server = listener.accept()
    assert server is not None
    server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    server.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@script
def address_in_use(net: Net) -> None:
    listener = net.listener()
    second = net.socket("second")
    second.bind(listener)
    third = net.socket("third")
    third.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    third.bind(listener)
    address = listener.raw.getsockname()
    listener.close()
    third.bind(address)
    third.listen()


@script
def address_in_use_by_any(net: Net) -> None:
    listener = net.listener(address=("0.0.0.0", 0))
    _, port = listener.raw.getsockname()
    second = net.socket("second")
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    second.bind((HERE, port))


@script
def any_address_in_use_by_one(net: Net) -> None:
    listener = net.listener()
    _, port = listener.raw.getsockname()
    second = net.socket("second")
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    second.bind(("0.0.0.0", port))


@script
def address_bound_twice_without_listening(net: Net) -> None:
    first, second, third = (net.socket(name) for name in ("first", "second", "third"))
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind()
    second.bind(first)
    third.bind(first)
    first.listen()
    second.listen()
    first.close()
    second.listen()


@script
def address_of_a_closed_listener(net: Net) -> None:
    listener = net.listener()
    address = listener.raw.getsockname()
    listener.close()
    again = net.socket("again")
    again.bind(address)
    again.listen()


@script
def address_with_living_connections(net: Net) -> None:
    client, _ = net.pair()
    address = client.raw.getpeername()
    plain = net.socket("plain")
    plain.bind(address)
    reusing = net.socket("reusing")
    reusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reusing.bind(address)
    reusing.listen()
    client.write(b"x")
    client.mask()


@script
def address_of_nobody(net: Net) -> None:
    sock = net.socket("sock")
    sock.bind(("192.0.2.7", 0))
    sock.mask()
    sock.getsockname()
    sock.bind()
    sock.bind()


@script
def ports_are_chosen(net: Net) -> None:
    first, second = net.listener(), net.listener(name="second")
    net.tell("differ", first.raw.getsockname() != second.raw.getsockname())
    net.tell("above 1023", first.raw.getsockname()[1] > 1023)
