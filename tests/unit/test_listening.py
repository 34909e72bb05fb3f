"""Opening the sockets that listen."""

from __future__ import annotations

import errno
import socket

import pytest

from anysock.engines.base import Binding
from anysock.engines.posix import listening

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
