"""--idle-timeout: a connection on which nothing moves is ended; the busy ones are not.

When that is, is looked at in `simulated/test_time_limits.py`.
"""

from __future__ import annotations

import os
import signal
import time

from tests.harness import receive_exactly


def test_blocking_ends_an_idle_client_and_serves_the_next(start_server):
    server = start_server("echo", "--idle-timeout", "300ms", engine="blocking")
    with server.connect() as idle, server.connect() as waiting:
        waiting.sendall(b"hello")
        assert idle.recv(1) == b""
        assert receive_exactly(waiting, 5) == b"hello"


def test_0_is_no_limit(start_server):
    server = start_server(
        *("echo", "--idle-timeout", "0", "--min-rate", "0", "--write-timeout", "0"),
        *("--max-lifetime", "0"),
        engine="threads",
    )
    server.base_threads -= 1  # nobody looks
    assert server.ask(b"hello") == b"hello"


def test_who_sent_while_the_process_was_stopped_is_not_idle(engine, start_server):
    """A container that is frozen (cgroup v2, cgroup.freeze) is stopped like this, as one looks at a
    process under a debugger."""
    server = start_server("echo", "--idle-timeout", "500ms", "-v", engine=engine)
    clients = [server.connect() for _ in range(1 if engine == "blocking" else 10)]
    for client in clients:
        client.sendall(b"before")
        assert receive_exactly(client, 6) == b"before"
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for client in clients:
            client.sendall(b"meanwhile")
        time.sleep(0.7)  # longer than the limit, which is what is tested
    finally:
        os.kill(server.pid, signal.SIGCONT)
    for client in clients:
        assert receive_exactly(client, 9) == b"meanwhile"
    # Who stays silent from now on has had its time all the same.
    for client in clients:
        assert client.recv(1) == b""
        client.close()
