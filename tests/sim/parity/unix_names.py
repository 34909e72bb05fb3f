"""Scripts on how Unix stream sockets are named, listen and connect (unix(7))."""

from __future__ import annotations

import os
import socket
import struct

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import Net
from tests.sim.parity.sock import Sock

UNIX = socket.AF_UNIX


@script
def unix_before_connect(net: Net) -> None:
    sock = net.socket("fresh", UNIX)
    sock.mask()
    sock.getsockname()
    sock.getpeername()
    sock.read()
    sock.write(b"x")
    sock.shutdown()
    sock.listen()
    sock.accept()


@script
def unix_connected(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    listener.mask()
    client = net.socket("client", UNIX)
    client.connect(path)
    client.mask()
    net.tell("peer", client.raw.getpeername() == path)
    client.getsockname()
    client.error()
    listener.mask()
    client.write(b"early")
    server = listener.accept()
    assert server is not None
    net.tell("named", server.raw.getsockname() == path)
    server.getpeername()
    server.mask()
    server.read()
    server.write(b"answer")
    client.read()
    client.connect(path)
    client.outq()


@script
def unix_backlog_full(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(1, path, family=UNIX)
    clients = [net.socket(f"client {number}", UNIX) for number in range(4)]
    for client in clients:
        client.connect(path)
        client.mask()
    listener.accept()
    clients[3].connect(path)
    clients[3].mask()


@script
def unix_names_of_nobody(net: Net) -> None:
    path = net.machine.path("a")
    client = net.socket("client", UNIX)
    client.connect(path)
    listener = net.listener(16, path, family=UNIX)
    second = net.socket("second", UNIX)
    second.bind(path)
    listener.close()
    client.connect(path)
    third = net.socket("third", UNIX)
    third.bind(path)
    net.call("unlink", net.machine.os.unlink, path)
    net.call("unlink", net.machine.os.unlink, path)
    third.bind(path)
    client.connect(path)
    third.listen()
    client.connect(path)
    client.mask()


@script
def unix_path_unlinked(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    net.call("unlink", net.machine.os.unlink, path)
    client = net.socket("client", UNIX)
    client.connect(path)
    other = net.listener(16, path, name="other", family=UNIX)
    client.connect(path)
    listener.accept()
    other.accept()


@script
def unix_path_is_a_file(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)

    def identity() -> tuple[int, int]:
        found = net.machine.os.stat(path)
        return found.st_dev, found.st_ino

    first = identity()
    net.tell("the same", first == identity())
    net.tell("a socket", (net.machine.os.lstat(path).st_mode & 0o170000) == 0o140000)
    net.call("chmod", net.machine.os.chmod, path, 0o600)
    net.tell("mode", net.machine.os.stat(path).st_mode & 0o777)
    net.machine.os.unlink(path)
    net.call("stat", net.machine.os.stat, path)
    net.call("chmod", net.machine.os.chmod, path, 0o600)
    net.listener(16, path, name="other", family=UNIX)
    net.tell("another", first != identity())
    listener.close()
    net.tell("still there", bool(net.machine.os.stat(path)))


@script
def unix_abstract_names(net: Net) -> None:
    name = "\0anysock-parity"
    listener = net.listener(16, name, family=UNIX)
    listener.getsockname()
    second = net.socket("second", UNIX)
    second.bind(name)
    client = net.socket("client", UNIX)
    client.connect(name)
    client.getpeername()
    listener.accept()
    listener.close()
    second.bind(name)
    other = net.socket("other", UNIX)
    other.connect(name)
    third = net.socket("third", UNIX)
    third.connect("\0anysock-nobody")


@script
def unix_listener_closes_with_a_backlog(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    quiet, speaking = net.client(listener, "quiet"), net.client(listener, "speaking")
    speaking.write(b"hello")
    listener.close()
    for client in (quiet, speaking):
        client.mask()
        client.read()
        client.read()
        client.write(b"x")


@script
def unix_peer_closes_in_the_backlog(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    client = net.client(listener)
    client.write(b"said")
    client.close()
    listener.mask()
    server = listener.accept()
    assert server is not None
    server.mask()
    server.read()
    server.read()
    server.write(b"x")


@script
def unix_listener_shut_down(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    client = net.client(listener)
    listener.shutdown(socket.SHUT_RDWR)
    listener.mask()
    late = net.socket("late", UNIX)
    late.connect(path)
    listener.accept()
    listener.accept()
    client.mask()


@script
def unix_listener_is_no_stream(net: Net) -> None:
    listener = net.listener(16, net.machine.path("a"), family=UNIX)
    listener.read()
    listener.write(b"x")
    listener.getpeername()
    listener.accept()
    listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@script
def unix_accept_without_descriptors(net: Net) -> None:
    listener = net.listener(16, net.machine.path("a"), family=UNIX)
    client = net.client(listener)
    with net.no_descriptors():
        listener.accept()
        listener.mask()
    client.mask()
    listener.accept()


@script
def unix_listen_again_with_less_room(net: Net) -> None:
    path = net.machine.path("a")
    listener = net.listener(16, path, family=UNIX)
    net.client(listener, "first")
    listener.listen(0)
    late = net.socket("late", UNIX)
    late.connect(path)
    listener.accept()
    late.connect(path)
    listener.accept()


@script
def unix_credentials(net: Net) -> None:
    client, server = net.pair(UNIX)
    ucred = struct.Struct("iII")

    def credentials(sock: Sock) -> bool:
        packed = sock.raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
        return bool(ucred.unpack(packed) == (os.getpid(), os.getuid(), os.getgid()))

    net.call("credentials", credentials, client)
    net.call("credentials", credentials, server)


@script
def unix_used_after_close(net: Net) -> None:
    client, server = net.pair(UNIX)
    server.close()
    server.read()
    server.write(b"x")
    server.getsockname()
    server.shutdown()
    client.connect(net.machine.path("nobody"))
