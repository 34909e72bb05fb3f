"""Scripts on how a TCP connection ends: close(2), shutdown(2), and resets."""

from __future__ import annotations

import socket

from tests.sim.parity.catalogue import script
from tests.sim.parity.net import Net
from tests.sim.parity.sock import OUT


@script
def half_close_by_the_client(net: Net) -> None:
    client, server = net.pair()
    client.write(b"question")
    client.shutdown()
    client.mask()
    client.write(b"more")
    server.mask()
    server.read()
    server.read()
    server.mask()
    server.write(b"answer")
    server.outq()
    client.mask()
    client.read()
    client.read()
    server.shutdown()
    server.mask()
    client.mask()
    client.read()
    server.read()
    server.getpeername()
    client.getpeername()
    client.after_all()
    server.after_all()


@script
def half_close_by_the_server(net: Net) -> None:
    client, server = net.pair()
    server.shutdown()
    client.read()
    client.write(b"still")
    server.read()
    client.close()
    server.mask()
    server.read()
    server.after_all()


@script
def ends_with_close(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    server.read()
    server.close()
    client.mask()
    client.read()
    client.after_all()


@script
def both_close_one_after_the_other(net: Net) -> None:
    client, server = net.pair()
    client.close()
    server.read()
    server.close()
    server.close()


@script
def shutdown_twice(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    client.shutdown()
    client.shutdown(socket.SHUT_RDWR)
    server.shutdown()
    client.shutdown()
    client.shutdown(socket.SHUT_RD)
    server.shutdown()
    server.shutdown(socket.SHUT_RD)
    server.mask()
    client.mask()


@script
def shutdown_after_the_peer_has_closed(net: Net) -> None:
    client, server = net.pair()
    client.close()
    server.shutdown()
    server.mask()
    server.read()
    server.shutdown()


@script
def shutdown_for_receiving_then_data(net: Net) -> None:
    client, server = net.pair()
    server.shutdown(socket.SHUT_RD)
    server.mask()
    server.read()
    client.mask()
    client.write(b"unwanted")
    server.mask()
    server.read()
    server.read()
    client.write(b"again")
    client.outq()
    server.write(b"yet an answer")
    client.read()
    server.close()
    client.mask()
    client.read()


@script
def shutdown_for_receiving_with_data(net: Net) -> None:
    client, server = net.pair()
    client.write(b"waits")
    server.shutdown(socket.SHUT_RD)
    server.mask()
    server.peek()
    server.read()
    server.read()
    server.close()
    client.mask()
    client.read()


@script
def shutdown_for_receiving_then_an_end(net: Net) -> None:
    client, server = net.pair()
    server.shutdown(socket.SHUT_RD)
    client.shutdown()
    server.mask()
    server.read()
    server.shutdown()
    server.mask()


@script
def shutdown_for_both(net: Net) -> None:
    client, server = net.pair()
    client.write(b"waits")
    server.shutdown(socket.SHUT_RDWR)
    server.mask()
    server.read()
    server.read()
    server.write(b"x")
    client.mask()
    client.read()
    client.write(b"x")
    server.mask()
    client.mask()
    server.close()
    client.mask()
    client.after_all()


@script
def close_with_unread_data(net: Net) -> None:
    client, server = net.pair()
    client.write(b"unread")
    server.close()
    client.mask()
    client.read()
    client.after_all()


@script
def close_with_unread_data_after_an_answer(net: Net) -> None:
    client, server = net.pair()
    client.write(b"one")
    server.read()
    server.write(b"answer")
    client.write(b"two")
    server.close()
    client.mask()
    client.peek()
    client.read(3)
    client.read()
    client.read()
    client.after_all()


@script
def close_with_an_unread_end(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    server.close()
    client.after_all()


@script
def close_with_unread_data_and_an_end(net: Net) -> None:
    client, server = net.pair()
    client.write(b"unread")
    client.shutdown()
    server.close()
    client.after_all()


@script
def close_with_unread_data_after_our_end(net: Net) -> None:
    client, server = net.pair()
    server.write(b"answer")
    server.shutdown()
    client.write(b"unread")
    server.close()
    client.mask()
    client.after_all()


@script
def close_with_data_that_was_peeked_at(net: Net) -> None:
    client, server = net.pair()
    client.write(b"peeked")
    server.peek(100)
    server.close()
    client.read()


@script
def data_after_the_peer_has_closed(net: Net) -> None:
    client, server = net.pair()
    server.close()
    client.mask()
    client.write(b"first")
    client.mask()
    client.write(b"second")
    client.write(b"third")
    client.mask()
    client.read()
    client.error()
    client.mask()


@script
def data_after_the_peer_has_closed_then_error(net: Net) -> None:
    client, server = net.pair()
    server.close()
    client.write(b"first")
    client.error()
    client.write(b"second")
    client.read()
    client.getpeername()
    client.shutdown()


@script
def data_after_the_peer_has_closed_then_read(net: Net) -> None:
    client, server = net.pair()
    server.write(b"last words")
    server.close()
    client.write(b"first")
    client.mask()
    client.read(4)
    client.read()
    client.read()
    client.write(b"second")


@script
def data_after_an_end_that_was_read_and_a_close(net: Net) -> None:
    client, server = net.pair()
    server.close()
    client.read()
    client.write(b"first")
    client.read()
    client.write(b"second")


@script
def data_after_the_peer_has_closed_that_we_have_ended(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    server.write(b"answer")
    client.close()  # with an answer unread
    server.mask()
    server.read()
    server.write(b"more")
    server.mask()


@script
def data_for_a_closed_half(net: Net) -> None:
    client, server = net.pair()
    client.shutdown()
    client.close()
    server.read()
    server.write(b"one")
    server.mask()
    server.write(b"two")
    server.read()


@script
def close_with_data_on_its_way(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    server.fill()
    server.close()
    client.mask()
    client.drain(server)
    client.read()
    client.mask()
    client.write(b"x")


@script
def shutdown_with_data_on_its_way(net: Net) -> None:
    client, server = net.pair(buffer=8192)
    server.fill()
    server.shutdown()
    server.mask()
    server.write(b"x")
    client.drain(server)
    client.read()
    server.outq()
    client.write(b"thanks")
    server.read()
    client.close()
    server.mask()
    server.read()


@script
def used_after_close(net: Net) -> None:
    client, server = net.pair()
    server.close()
    server.read()
    server.write(b"x")
    server.peek()
    server.getsockname()
    server.getpeername()
    server.error()
    server.shutdown()
    server.listen()
    server.accept()
    server.connect(client)
    server.writev([b"x", b"y"])
    server.close()


@script
def simultaneous_ends(net: Net) -> None:
    client, server = net.pair()
    client.write(b"a")
    server.write(b"b")
    client.raw.shutdown(socket.SHUT_WR)
    server.raw.shutdown(socket.SHUT_WR)
    net.settle()
    client.mask()
    server.mask()
    client.read()
    server.read()
    client.read()
    server.read()
    client.close()
    server.mask()
    server.close()


@script
def detached(net: Net) -> None:
    client, server = net.pair()
    fd = server.raw.detach()
    server.write(b"x")
    client.write(b"for the descriptor")
    adopted = net.add("adopted", net.machine.socket.socket(fileno=fd))
    adopted.read()
    net.tell("kind", (adopted.raw.family, adopted.raw.type))
    adopted.close()
    client.read()


@script
def connection_outlives_its_listener(net: Net) -> None:
    listener = net.listener()
    client = net.client(listener)
    server = listener.accept()
    assert server is not None
    listener.close()
    client.write(b"x")
    server.read()
    server.write(b"y")
    client.wait(OUT)
    client.read()
