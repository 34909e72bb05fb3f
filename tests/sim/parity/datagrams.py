"""Scripts on UDP sockets."""

from __future__ import annotations

import socket
from typing import Any

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import HERE, Net
from tests.sim.parity.sock import Sock

DGRAM = socket.SOCK_DGRAM


def _bound(net: Net, name: str) -> Sock:
    sock = net.socket(name, kind=DGRAM)
    sock.raw.bind((HERE, 0))
    return sock


def _receive(sock: Sock, size: int = 65535) -> None:
    def receive() -> Any:
        data, control, flags, source = sock.raw.recvmsg(size, 128)
        return data, control, flags & socket.MSG_TRUNC, sock.net.named(source)

    sock.call(f"recvmsg({size})", receive)


def _send(sock: Sock, data: bytes, to: Any = None) -> None:
    if to is None:
        sock.call("send", sock.raw.send, data)
    else:
        address = to.raw.getsockname() if isinstance(to, Sock) else to
        sock.call("sendmsg", sock.raw.sendmsg, [data], (), 0, address)


@script
def udp_to_and_fro(net: Net) -> None:
    server, client = _bound(net, "server"), net.socket("client", kind=DGRAM)
    server.mask()
    server.getsockname()
    client.getsockname()
    client.mask()
    _receive(server)
    _send(client, b"hello", server)
    client.getsockname()
    server.mask()
    _receive(server)
    _send(server, b"answer", (HERE, client.raw.getsockname()[1]))
    _receive(client)
    _receive(client)


@script
def udp_keeps_bounds_and_order(net: Net) -> None:
    server, client = _bound(net, "server"), _bound(net, "client")
    for data in (b"one", b"", b"three"):
        _send(client, data, server)
    server.mask()
    for _ in range(4):
        _receive(server)


@script
def udp_truncated(net: Net) -> None:
    server, client = _bound(net, "server"), _bound(net, "client")
    _send(client, b"0123456789", server)
    _send(client, b"next", server)
    _receive(server, 4)
    _receive(server, 4)


@script
def udp_too_large(net: Net) -> None:
    server, client = _bound(net, "server"), _bound(net, "client")
    _send(client, bytes(65508), server)
    _send(client, bytes(65507), server)
    _receive(server)


@script
def udp_connected(net: Net) -> None:
    server, client = _bound(net, "server"), net.socket("client", kind=DGRAM)
    client.getpeername()
    _send(client, b"to nobody")
    client.connect(server)
    client.getpeername()
    client.getsockname()
    _send(client, b"hello")
    _receive(server)


@script
def udp_connected_filters(net: Net) -> None:
    server, client, other = (_bound(net, name) for name in ("server", "client", "other"))
    client.connect(server)
    _send(other, b"from another", client)
    client.mask()
    _receive(client)
    _send(server, b"from the server", client)
    _receive(client)


@script
def udp_refused(net: Net) -> None:
    gone, client = _bound(net, "gone"), net.socket("client", kind=DGRAM)
    client.connect(gone)
    gone.close()
    client.mask()
    _send(client, b"one")
    client.mask()
    _send(client, b"two")
    _send(client, b"three")
    _receive(client)
    _receive(client)
    _send(client, b"four")
    client.error()
    client.error()
    client.mask()


@script
def udp_refused_without_connect(net: Net) -> None:
    gone, client = _bound(net, "gone"), _bound(net, "client")
    address = gone.raw.getsockname()
    gone.close()
    _send(client, b"one", address)
    client.mask()
    client.error()
    _send(client, b"two", address)
    _receive(client)


@script
def udp_refused_then_there(net: Net) -> None:
    gone, client = _bound(net, "gone"), net.socket("client", kind=DGRAM)
    address = gone.raw.getsockname()
    client.connect(address)
    gone.close()
    _send(client, b"lost")
    server = net.socket("server", kind=DGRAM)
    server.bind(address)
    _send(client, b"not sent")
    _send(client, b"sent")
    _receive(server)
    _receive(server)


@script
def udp_address_in_use(net: Net) -> None:
    server, other = _bound(net, "server"), net.socket("other", kind=DGRAM)
    other.bind(server)
    address = server.raw.getsockname()
    server.close()
    other.bind(address)


@script
def udp_to_itself(net: Net) -> None:
    sock = _bound(net, "sock")
    _send(sock, b"to myself", sock)
    _receive(sock)
    sock.connect(sock)
    _send(sock, b"again")
    _receive(sock)


@script
def udp_destination_is_told(net: Net) -> None:
    server = net.socket("server", kind=DGRAM)
    server.raw.bind(("0.0.0.0", 0))
    server.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    client = _bound(net, "client")
    _send(client, b"where to?", (HERE, server.raw.getsockname()[1]))

    def receive() -> Any:
        data, control, _, source = server.raw.recvmsg(65535, 128)
        level, kind, packed = control[0]
        # Of in_pktinfo: our address, and that of the datagram.
        return data, level, kind, packed[4:], net.named(source)

    server.call("recvmsg", receive)
    origin = ((socket.IPPROTO_IP, 8, bytes(4) + socket.inet_aton(HERE) + bytes(4)),)
    server.call("sendmsg", server.raw.sendmsg, [b"here"], origin, 0, client.raw.getsockname())
    _receive(client)


@script
def udp_overflows(net: Net) -> None:
    server, client = _bound(net, "server"), _bound(net, "client")
    server.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        client.raw.sendmsg([bytes(1000)], (), 0, server.raw.getsockname())
    net.settle()
    client.mask()
    received = 0
    try:
        while True:
            server.raw.recvmsg(65535, 128)
            received += 1
    except BlockingIOError:
        net.tell("some are lost", 0 < received < 100)


@script
def udp_used_after_close(net: Net) -> None:
    sock, other = _bound(net, "sock"), _bound(net, "other")
    sock.close()
    _send(sock, b"x", other)
    _receive(sock)
    sock.getsockname()


@script
def udp_is_no_listener(net: Net) -> None:
    sock = _bound(net, "sock")
    sock.listen()
    sock.accept()
    sock.shutdown()
    sock.error()
