"""Contract 2: a peer that does not read makes us stop reading from it."""

from __future__ import annotations

from tests.harness import exchange, receive_exactly, send_until_stuck

# More than all socket buffers on the way hold (tcp_rmem and tcp_wmem: up to 14 MB), so that what is
# not stuck in them would have to be in the memory of the server.
UNREAD = 32_000_000
GROWTH = 4_000_000


def test_megabytes_unread_do_not_grow_the_server(engine, start_server):
    server = start_server(engine=engine)
    with server.connect() as warm_up:
        exchange(warm_up, b"x" * 1_000_000)
    before = server.memory()
    with server.connect() as client:
        sent = send_until_stuck(client, UNREAD)
        assert sent < UNREAD, "the server took everything, though nobody read its answers"
        assert server.memory() - before < GROWTH
        # And nothing is lost: whoever reads at last gets all of it.
        assert receive_exactly(client, sent) == b"x" * sent


def test_others_are_served_beside_a_peer_that_does_not_read(concurrent_engine, start_server):
    server = start_server(engine=concurrent_engine)
    with server.connect() as stuck:
        sent = send_until_stuck(stuck, UNREAD)
        for _ in range(10):
            assert server.ask(b"hello") == b"hello"
        receive_exactly(stuck, sent)
