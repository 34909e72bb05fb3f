"""Scripts on how a TCP connection is reset."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import Net


@script
def linger_of_none(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.mask()
    client.after_all()


@script
def linger_of_none_after_the_peers_end(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    server.reset()
    client.mask()
    client.after_all()


@script
def linger_of_none_after_our_end(net: Net) -> None:
    client, server = net.pair()
    server.shutdown()
    server.reset()
    client.mask()
    client.after_all()


@script
def linger_of_none_after_both_ends(net: Net) -> None:
    client, server = net.pair()
    server.shutdown()
    client.shutdown()
    server.reset()
    client.after_all()


@script
def linger_of_none_with_data_on_its_way(net: Net) -> None:
    client, server = net.pair()
    server.write(b"received")
    server.reset()
    client.mask()
    client.peek()
    client.read(4)
    client.read()
    client.mask()
    client.read()
    client.read()


@script
def abort_as_streams_do(net: Net) -> None:
    client, server = net.pair()
    client.write(b"something")
    server.linger()
    server.shutdown(socket.SHUT_RD)
    server.mask()
    client.mask()
    client.write(b"more")
    server.read()
    server.close()
    client.mask()
    client.read()


@script
def abort_of_one_that_sends(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    server.fill()
    server.linger()
    server.shutdown(socket.SHUT_RD)
    server.mask()
    server.close()
    client.drain(server)
    client.read()


@script
def reset_is_told_once(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.read()
    client.read()
    client.write(b"x")
    client.error()


@script
def reset_is_told_to_a_writer(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.write(b"x")
    client.write(b"x")
    client.read()
    client.read()


@script
def reset_is_told_by_so_error(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.error()
    client.error()
    client.mask()
    client.read()
    client.write(b"x")


@script
def reset_met_by_shutdown(net: Net) -> None:
    client, server = net.pair()
    server.reset()
    client.shutdown()
    client.shutdown(socket.SHUT_RD)
    client.peek()
    client.close()


@script
def reset_after_our_end(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    server.reset()
    client.write(b"x")
    client.read()
    client.read()


@script
def reset_of_a_full_socket(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.fill()
    client.mask()
    server.reset()
    client.mask()
    client.write(b"x")


@script
def reset_with_unread_data(net: Net) -> None:
    client, server = net.pair()
    server.write(b"one")
    client.write(b"two")
    server.close()
    client.write(b"three")
    client.read()
    client.read()


@script
def both_full_then_one_closes(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    server.fill()
    client.fill()
    server.close()
    client.mask()
    client.drain(server)


@script
def reset_after_both_ends_with_data_on_its_way(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.fill()
    server.shutdown()
    client.shutdown()
    client.mask()
    client.getpeername()
    server.reset()
    client.mask()
    client.error()
    client.read()


@script
def reset_by_unread_data_after_both_ends(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    client.fill()
    client.shutdown()
    server.write(b"answer")
    server.shutdown()
    server.close()
    client.mask()
    client.read()
    client.error()
    client.read()
