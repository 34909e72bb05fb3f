"""Scripts on how the bytes of a TCP connection are sent and received."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import Net
from tests.sim.parity.sock import IN, OUT


@script
def pieces_become_one(net: Net) -> None:
    client, server = net.pair()
    client.write(b"one ")
    client.write(b"two ")
    client.write(b"three")
    server.read(6)
    server.read()
    server.read()


@script
def reading_more_and_less(net: Net) -> None:
    client, server = net.pair()
    client.write(bytes(range(256)) * 4)
    for size in (1, 100, 448, 262144):
        server.read(size)
    server.mask()


@script
def nothing_read_and_written(net: Net) -> None:
    client, server = net.pair()
    server.read(0)
    client.write(b"")
    server.mask()
    client.write(b"x")
    server.read(0)
    server.mask()
    server.read()
    client.shutdown()
    server.read(0)
    client.write(b"")
    server.read()
    server.close()
    client.write(b"")
    client.read(0)


@script
def nothing_written_after_a_reset(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.write(b"")
    client.read(0)
    client.read()
    client.read(0)
    client.write(b"")


@script
def peeking(net: Net) -> None:
    client, server = net.pair()
    server.peek()
    client.write(b"peekaboo")
    server.peek()
    server.peek(4)
    server.peek(100)
    server.mask()
    server.read(4)
    server.peek(100)
    server.read()
    server.peek()
    client.write(b"in two ")
    client.write(b"pieces")
    server.peek(10)
    server.peek(100)
    server.read()
    client.shutdown()
    server.peek()
    server.read()


@script
def vectors(net: Net) -> None:
    client, server = net.pair()
    client.writev([b"one", b"", b"two", b"three"])
    server.read()
    client.writev([b""])
    client.writev([])
    server.mask()
    client.writev([b"x"] * 1024)
    server.read()
    client.writev([b"x"] * 1025)


@script
def vector_after_the_end(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    client.writev([b"a", b"b"])
    server.reset()
    client.writev([b"a", b"b"])


@script
def files(net: Net) -> None:
    client, server = net.pair()
    fd = net.machine.file(b"0123456789" * 100)
    client.sendfile(fd, 0, 10)
    server.read()
    client.sendfile(fd, 995, 1000)
    server.read()
    client.sendfile(fd, 1000, 10)
    client.sendfile(fd, 5000, 10)
    client.sendfile(-1, 0, 10)
    server.mask()
    client.sendfile(fd, 0, 0)
    client.shutdown()
    client.sendfile(fd, 0, 10)
    server.close()
    client.sendfile(fd, 0, 10)
    client.close()
    client.sendfile(fd, 0, 10)


@script
def file_into_a_full_socket(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    fd = net.machine.file(b"0123456789" * 100)
    client.fill()
    client.sendfile(fd, 0, 1000)
    server.drain(client)
    client.wait(OUT)
    client.sendfile(fd, 0, 1000)
    server.read()


@script
def full_then_room_again(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.mask()
    client.fill()
    client.mask()
    client.write(b"x")
    client.writev([b"x", b"y"])
    client.outq_empty()
    server.mask()
    server.drain(client)
    client.wait(OUT)
    client.outq()
    client.write(b"fits")
    server.read()


@script
def full_and_one_byte_read(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.fill()
    server.read(1)
    client.mask()
    client.write(b"x")


@script
def full_with_buffers_of_the_system(net: Net) -> None:
    client, server = net.pair()
    client.fill()
    client.mask()
    server.drain(client)
    client.wait(OUT)
    server.mask()


@script
def both_full_then_both_drained(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.fill()
    server.fill()
    client.mask()
    server.mask()
    client.drain(server)
    server.drain(client)
    client.wait(OUT)
    server.wait(OUT)


@script
def closed_window_opens_for_an_end(net: Net) -> None:
    client, server = net.pair(buffer=4096)
    client.fill()
    client.shutdown()
    server.mask()
    server.write(b"the other way is free")
    client.read()
    server.drain(client)
    server.wait(IN)
    server.read()


@script
def larger_than_all_buffers(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    data = bytes(100_000)

    def write() -> str:
        sent = net.machine.os.write(client.raw.fileno(), data)
        client.filled += sent
        return "a part" if 0 < sent < len(data) else "all"

    client.call("write(100000)", write)
    client.mask()
    read = 0
    while read < client.filled:
        try:
            read += len(net.machine.os.read(server.raw.fileno(), 65536))
        except BlockingIOError:
            net.machine.wait(server.raw, IN)
    net.settle()
    net.tell("read", read == client.filled)
    server.mask()
    client.wait(OUT)


@script
def unacknowledged(net: Net) -> None:
    client, server = net.pair()
    client.outq()
    client.write(b"acknowledged by the kernel")
    client.outq()
    client.shutdown()
    client.outq()
    server.outq()
    server.close()
    client.outq()


@script
def buffer_sizes_read_back(net: Net) -> None:
    sock = net.socket("sock")
    for size in (0, 1, 1000, 8192, 50_000, 200_000):
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            sock.getsockopt(socket.SOL_SOCKET, option)


@script
def options_read_back(net: Net) -> None:
    sock = net.socket("sock")
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, False),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 77),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 32768),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 0),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 128),
    ):
        sock.getsockopt(level, option)
        sock.setsockopt(level, option, value)
        sock.getsockopt(level, option)
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    sock.linger()
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)


@script
def names_of_a_connection(net: Net) -> None:
    client, server = net.pair()
    client.getsockname()
    server.getpeername()
    client.getpeername()
    server.getsockname()
    client.shutdown()
    server.getpeername()
    client.getpeername()
    server.shutdown()
    server.getpeername()
    client.getpeername()
    server.getsockname()


@script
def echo_of_many_sizes(net: Net) -> None:
    client, server = net.pair()
    for size in (1, 448, 1448, 1449, 4096, 20_000):
        client.write(bytes(size))
        server.write(server.read())
        client.read()
