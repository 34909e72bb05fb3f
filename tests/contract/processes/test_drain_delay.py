"""``--drain-delay``: for a load balancer to notice, before the drain begins.

When each of that happens, is looked at in `simulated/test_drain_order.py`.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.harness import exchange, receive_all, receive_exactly, wait_until


@contextmanager
def chatter(client: socket.socket) -> Iterator[threading.Event]:
    """Talk all the time, so that the connection is not at rest; until told, or reset."""
    stop = threading.Event()

    def talk() -> None:
        try:
            while not stop.wait(0.02):
                client.sendall(b"x")
                if not client.recv(1):
                    return
        except OSError:
            pass

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        yield stop
    finally:
        stop.set()
        talker.join()


def test_first_the_delay_and_then_the_drain(engine, start_server):
    """New clients are served, and those who are connected notice nothing; then they are refused,
    and ended. All of it takes no longer than the drain may."""
    server = start_server(
        *("echo", "--drain-delay", "800ms", "--drain-timeout", "2200ms"),
        engine=engine,
        expected_code=0 if engine == "blocking" else 1,
    )
    server.expected_errors += ["aborted the connection", "1 connections were aborted"]
    with ExitStack() as stack:
        if engine != "blocking":
            stack.enter_context(chatter(stack.enter_context(server.connect())))
            quiet = stack.enter_context(server.connect())
            quiet.sendall(b"hello")
            receive_exactly(quiet, 5)
        began = time.monotonic()
        server.signal()
        server.wait_for(r"not ready any more: draining begins in 0\.8 s")
        assert server.ask(b"sent by a load balancer") == b"sent by a load balancer"
        if engine != "blocking":
            assert receive_all(quiet) == b""
        wait_until(server.refuses, "it refuses")
        assert time.monotonic() - began >= 0.8
        left = server.wait_for(r"draining: (\d) connections left, for at most ([\d.]+) s")
        assert float(left[2]) <= 1.4
        if engine == "blocking":
            assert server.wait() == 0
        else:
            # (On a busy machine, the one that has seen its end is not accounted for yet.)
            server.wait_for("draining: [12] connections left, 0 s left")
            assert server.wait() == 1
            assert 2.2 <= time.monotonic() - began < 8


def test_a_second_signal_exits_at_once_in_the_delay_too(engine, start_server):
    server = start_server(
        *("echo", "--drain-delay", "30s", "--drain-timeout", "60s"), engine=engine, expected_code=1
    )
    with server.connect() as client:
        client.sendall(b"x")
        receive_exactly(client, 1)
        server.signal(signal.SIGINT)
        server.wait_for("not ready any more")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert time.monotonic() - began < 5
    server.wait_for("a second signal, SIGTERM: exiting at once")


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_a_drain_does_not_wait_for_the_accept_rate(engine, start_server):
    """Who is in the backlog would come in one by one, for longer than the drain may take."""
    server = start_server("echo", "--accept-rate", "0.01", engine=engine)
    server.expected_errors.append("further clients wait")
    clients = [server.connect() for _ in range(20)]
    try:
        clients[0].sendall(b"x")
        receive_exactly(clients[0], 1)
        server.wait_for("further clients wait")
        # Before the signal: a drain ends a connection that has nothing to say.
        for client in clients:
            client.sendall(b"hello")
        server.signal()
        assert [receive_exactly(client, 5) for client in clients] == 20 * [b"hello"]
        assert server.wait() == 0
    finally:
        for client in clients:
            client.close()
    server.wait_for(r"drained in [0-4]\.")


def test_with_workers_whoever_is_not_refused_is_served(start_server):
    """When the delay is over, no socket may listen on that nobody accepts from."""
    server = start_server(
        *("echo", "--workers", "2", "--drain-delay", "600ms", "--drain-timeout", "4s")
    )
    server.wait_for("all workers together")
    with ExitStack() as stack:
        # So that each worker has some, and none of them ends before this test does.
        for _ in range(8):
            stack.enter_context(chatter(stack.enter_context(server.connect())))
        server.wait_for("I got a connection", times=8)
        server.signal()
        server.wait_for(r"not ready any more: draining begins in 0\.6 s")
        began = time.monotonic()
        served = 0
        while time.monotonic() - began < 3:
            try:
                client = server.connect()
            except ConnectionRefusedError:
                break
            with client:
                assert exchange(client, b"hello") == b"hello"
            served += 1
            time.sleep(0.02)  # clients come one after the other
        assert 0.55 <= time.monotonic() - began < 3
        assert served >= 3
    assert server.wait() == 0
    left = server.wait_for(r"draining: \d+ connections left, for at most ([\d.]+) s")
    assert 0 < float(left[1]) <= 3.4
    assert len(server.matching("left, for at most")) == 1


def test_a_delay_that_leaves_no_time_is_refused():
    with pytest.raises(ValueError, match="--drain-delay: 10s must be less than --drain-timeout"):
        from anysock import ServeOptions

        ServeOptions(drain_delay="10s", drain_timeout="10s")  # type: ignore[arg-type]
