"""The locustfile: one master and two workers on loopback, against real servers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import bad_servers
from tests.bad_servers import bad_server
from tests.harness import free_port

LOCUSTFILE = Path(__file__).parents[2] / "examples" / "locust" / "locustfile.py"


@pytest.fixture(autouse=True)
def _locust() -> None:
    if importlib.util.find_spec("locust") is None:
        assert not os.environ.get("CI"), "locust is not installed"
        pytest.skip("locust is not installed")


def swarm(port: int, *, code: int) -> dict[str, Any]:
    """A master and two workers load 127.0.0.1:`port`; what the master tells, by request."""
    meeting = str(free_port())
    locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    locust += ["--host", f"127.0.0.1:{port}", "--skip-log-setup"]
    workers = [
        subprocess.Popen(
            [*locust, "--worker", "--master-host", "127.0.0.1", "--master-port", meeting],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    try:
        master = subprocess.run(
            [
                *(*locust, "--master", "--master-bind-host", "127.0.0.1"),
                *("--master-bind-port", meeting, "--expect-workers", "2"),
                *("--users", "10", "--spawn-rate", "10", "--run-time", "2s", "--json"),
            ],
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        for worker in workers:
            worker.wait(30)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert master.returncode == code, master.stdout + master.stderr
    return {entry["name"]: entry for entry in json.loads(master.stdout)}


def test_a_master_and_two_workers(start_server):
    server = start_server()
    told = swarm(server.port, code=0)
    assert told["connect"]["num_requests"] == 10
    assert told["echo"]["num_requests"] > 100
    assert told["connect"]["num_failures"] == told["echo"]["num_failures"] == 0


def test_a_corrupting_server_is_found_out():
    with bad_server(bad_servers.corrupt) as port:
        told = swarm(port, code=1)
    assert told["echo"]["num_failures"] == told["echo"]["num_requests"] > 0
