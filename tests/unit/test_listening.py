"""Opening the sockets that listen."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from anysock import ServeOptions
from anysock.engines.base import Binding
from anysock.engines.posix import listening
from anysock.workers.sockets import SharedSockets

V4 = (socket.AF_INET, ("127.0.0.1", 0))
V6 = (socket.AF_INET6, ("::1", 0, 0, 0))


def open_sockets(names, backlog, socket_buffer=None):
    bindings = [Binding("", tuple(name)) for name in names]
    return [each.sock for each in listening.open_sockets(bindings, backlog, socket_buffer)]


def close(opened):
    for sock in opened:
        sock.close()


def test_a_name_with_several_addresses_takes_one_free_port_for_all():
    opened = open_sockets([[V4, V6]], 5)
    first, second = (sock.getsockname() for sock in opened)
    close(opened)
    assert (first[0], second[0]) == ("127.0.0.1", "::1")
    assert first[1] == second[1]


def test_each_name_takes_a_port_of_its_own():
    opened = open_sockets([[V4], [V4]], 5)
    ports = {sock.getsockname()[1] for sock in opened}
    close(opened)
    assert len(ports) == 2


def test_a_port_that_is_taken_on_the_second_address_is_tried_again(monkeypatch):
    refused: list[int] = []
    really = listening._open_socket

    def open_socket(family, address, *more):
        if family == socket.AF_INET6 and len(refused) < 3:
            refused.append(address[1])
            raise OSError(errno.EADDRINUSE, "in use")
        return really(family, address, *more)

    monkeypatch.setattr(listening, "_open_socket", open_socket)
    opened = open_sockets([[V4, V6]], 5)
    close(opened)
    assert len(opened) == 2
    assert len(refused) == 3


def test_a_port_that_was_asked_for_is_not_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(OSError, match="in use") as caught:
            open_sockets([[V4], [(socket.AF_INET, address)]], 5)
    assert caught.value.filename == address


def test_they_listen_and_send_small_answers_at_once():
    opened = open_sockets([[V4]], 5)
    try:
        with socket.create_connection(opened[0].getsockname()), opened[0].accept()[0] as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        close(opened)


def test_socket_buffers_are_set_for_what_is_accepted():
    [listener] = open_sockets([[V4]], 5, socket_buffer=100_000)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                # Linux doubles what was asked for, for its own bookkeeping (socket(7)).
                assert accepted.getsockopt(socket.SOL_SOCKET, option) in (100_000, 200_000)


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def listening_socket(request, tmp_path) -> Iterator[listening.ListeningSocket]:
    unix = str(tmp_path / "socket")
    name: dict[str, Any] = {"tcp": V4, "tcp6": V6, "unix": (socket.AF_UNIX, unix)}
    [opened] = listening.open_sockets([Binding("", (name[request.param],))], 5)
    try:
        yield opened
    finally:
        opened.sock.close()


def client_of(server: listening.ListeningSocket, seconds: float = 5.0) -> socket.socket:
    client = socket.socket(server.sock.family)
    client.settimeout(seconds)
    try:
        client.connect(server.sock.getsockname())
    except BaseException:
        client.close()
        raise
    return client


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")
def test_nobody_comes_in_between_the_last_accept_and_the_close(listening_socket):
    """Who did would be connected, and reset by the close."""
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(listening_socket)) for _ in range(3)]
        waited = [
            stack.enter_context(peer).getpeername() for peer, _ in listening_socket.accept_waiting()
        ]
        assert waited == [client.getsockname() for client in clients]
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            client_of(listening_socket, 0.2)
        listening_socket.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")
def test_who_waits_is_accepted_though_nobody_else_may_come(listening_socket):
    with ExitStack() as stack:
        client = stack.enter_context(client_of(listening_socket))
        listening_socket.let_in_no_other()
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            client_of(listening_socket, 0.2)
        [(peer, _)] = listening_socket.accept_waiting()
        stack.enter_context(peer).sendall(b"hello")
        client.sendall(b"you")
        assert (client.recv(9), peer.recv(9)) == (b"hello", b"you")


def test_a_socket_that_others_listen_on_lets_everybody_in(listening_socket):
    fd = os.dup(listening_socket.sock.fileno())
    [shared] = listening.open_sockets([Binding("", (), fd=fd)], 5)
    shared.serve_backlog()
    assert not shared.accept_waiting()
    shared.close()
    with client_of(listening_socket) as client, listening_socket.sock.accept()[0] as peer:
        client.sendall(b"still")
        assert peer.recv(9) == b"still"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")
def test_what_a_supervisor_closes_lets_nobody_in_whom_its_workers_might_miss():
    sockets = SharedSockets(ServeOptions(port=0), lambda *_: None)
    [address] = sockets.inherited
    with socket.socket(fileno=os.dup(address.fd)) as of_worker:
        of_worker.settimeout(5)
        name = of_worker.getsockname()
        with socket.create_connection(name):
            sockets.close()
            with pytest.raises(TimeoutError):
                socket.create_connection(name, 0.2)
            of_worker.accept()[0].close()
