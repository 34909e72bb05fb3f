"""Scripts on Unix stream sockets (unix(7))."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import Net
from tests.sim.parity.sock import OUT

UNIX = socket.AF_UNIX


@script
def unix_half_close(net: Net) -> None:
    client, server = net.pair(UNIX)
    client.write(b"question")
    client.shutdown()
    client.mask()
    client.write(b"more")
    server.mask()
    server.read()
    server.read()
    server.mask()
    server.write(b"answer")
    client.read()
    server.shutdown()
    server.mask()
    client.mask()
    client.read()
    client.shutdown()
    client.shutdown(socket.SHUT_RDWR)


@script
def unix_shutdown_for_receiving(net: Net) -> None:
    client, server = net.pair(UNIX)
    client.write(b"waits")
    server.shutdown(socket.SHUT_RD)
    server.mask()
    client.mask()
    client.write(b"x")
    server.read()
    server.read()
    server.write(b"y")
    client.read()


@script
def unix_peer_closes(net: Net) -> None:
    client, server = net.pair(UNIX)
    server.write(b"last words")
    server.close()
    client.mask()
    client.write(b"x")
    client.read(4)
    client.read()
    client.getpeername()
    client.after_all()


@script
def unix_peer_closes_with_unread_data(net: Net) -> None:
    client, server = net.pair(UNIX)
    client.write(b"unread")
    server.close()
    client.mask()
    client.after_all()


@script
def unix_peer_closes_with_unread_data_after_an_answer(net: Net) -> None:
    client, server = net.pair(UNIX)
    server.write(b"answer")
    client.write(b"unread")
    server.close()
    client.mask()
    client.read()
    client.read()
    client.read()
    client.write(b"x")


@script
def unix_peer_closes_with_unread_data_then_write(net: Net) -> None:
    client, server = net.pair(UNIX)
    client.write(b"unread")
    server.close()
    client.write(b"x")
    client.write(b"x")
    client.read()
    client.read()


@script
def unix_linger_says_nothing(net: Net) -> None:
    client, server = net.pair(UNIX)
    server.reset()
    client.after_all()


@script
def unix_pair(net: Net) -> None:
    one, other = net.socketpair()
    one.mask()
    one.getsockname()
    one.getpeername()
    one.write(b"bell")
    other.mask()
    other.read()
    other.read()
    other.close()
    one.mask()
    one.write(b"x")
    one.read()


@script
def unix_full(net: Net) -> None:
    client, server = net.pair(UNIX, buffer=8192)
    client.fill()
    client.mask()
    client.outq_empty()
    client.write(b"x")
    server.drain(client)
    client.wait(OUT)
    client.outq()
    client.write(b"fits")
    server.read()


@script
def unix_full_then_closed(net: Net) -> None:
    client, server = net.pair(UNIX, buffer=8192)
    client.fill()
    client.close()
    server.mask()
    server.drain(client)
    server.read()


@script
def unix_full_and_the_peer_closes(net: Net) -> None:
    client, server = net.pair(UNIX, buffer=8192)
    client.fill()
    server.close()
    client.mask()
    client.write(b"x")
    client.read()
    client.outq()


@script
def unix_peeking_and_pieces(net: Net) -> None:
    client, server = net.pair(UNIX)
    server.peek()
    client.writev([b"one", b"two"])
    client.write(b"three")
    server.peek(2)
    server.read(4)
    server.peek(100)
    server.read()
    server.read(0)
    client.write(b"")
    client.write(b"x")
    server.read(0)
    server.read()
    fd = net.machine.file(b"0123456789")
    client.sendfile(fd, 2, 5)
    server.read()
    client.close()
    server.peek()
    server.read(0)
