"""Contract 10: idle costs nothing: no CPU with 0, 1 or 500 silent clients (but `polling`)."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.harness import ServerProcess, wait_until

SPAN = 0.5


def cpu_share(server: ServerProcess) -> float:
    """The share of a core that the server uses. The span is what is measured."""
    before, began = server.cpu_seconds(), time.monotonic()
    time.sleep(SPAN)
    return (server.cpu_seconds() - before) / (time.monotonic() - began)


def awake_share(server: ServerProcess) -> float:
    """The share of time in which the server runs, or would run if a core were free."""

    def awake() -> float:
        ran, waited, _ = Path(f"/proc/{server.pid}/schedstat").read_text().split()
        return (int(ran) + int(waited)) / 1e9

    before, began = awake(), time.monotonic()
    time.sleep(SPAN)
    return (awake() - before) / (time.monotonic() - began)


@pytest.mark.parametrize("clients", [0, 1, 500])
def test_silent_clients_cost_no_cpu(engine, start_server, clients):
    server = start_server("echo", "--log-level", "warning", engine=engine, python_flags=())
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(server.connect())
        # `blocking` has accepted one; the others wait in the kernel, and cost nothing there.
        accepted = min(clients, 1) if engine == "blocking" else clients
        wait_until(lambda: server.fds() >= server.base_fds + accepted, "all are accepted")
        if engine == "polling":
            # How long it waits for a core now is known once it has got one.
            assert awake_share(server) > 0.9 or awake_share(server) > 0.9
        else:
            share = cpu_share(server)
            if share >= 0.002:
                share = cpu_share(server)  # the last of the accepting was still going on
            assert share < 0.002
