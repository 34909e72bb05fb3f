"""The examples of protocols as processes, as a user starts them, each for all tests of its file."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import anysock
from anysock.engines import DEFAULT
from anysock.handlers import Handler
from tests.harness import PATIENCE, ServerProcess, need

PROTOCOLS = Path(__file__).parents[2] / "examples" / "protocols"

#: ``with serving("redis.py", engine) as server:``; see `ServerProcess`.
Serving = Callable[..., AbstractContextManager[ServerProcess]]


@pytest.fixture(scope="session")
def serving(request: pytest.FixtureRequest) -> Serving:
    """Start ``python examples/protocols/NAME --engine ENGINE OPTIONS`` on a free port, or as `more`
    says to `ServerProcess`; at the end, tell it to end, and look at what it leaves: nothing open,
    exit code 0, and neither a warning nor an error in its log. Scope: what the test likes, so that
    one process may serve many tests."""

    @contextlib.contextmanager
    def serving(name: str, engine: str, *options: str, **more: Any) -> Iterator[ServerProcess]:
        failed_before = request.session.testsfailed
        # One of each as a user starts it, with nothing imported before.
        more.setdefault("fresh", engine == DEFAULT)
        server = ServerProcess(PROTOCOLS / name, *options, engine=engine, **more)
        # Engines keep threads that have looked up a name, or sent a file, for the next.
        server.base_threads += 40
        try:
            yield server
            # A test that has failed may leave clients behind; its own failure tells more.
            if request.session.testsfailed == failed_before:
                server.check()
        finally:
            server.kill()

    return serving


def load(name: str) -> Any:
    """An example as a module, for what is tested without a connection."""
    spec = importlib.util.spec_from_file_location(f"protocol_{Path(name).stem}", PROTOCOLS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_client(
    *command: str, say: bytes = b"", code: int | None = 0, seconds: float = PATIENCE
) -> str:
    """Run a real client to its end, and return what it prints. `code`: its exit code; None: any."""
    done = subprocess.run(
        [need(command[0]), *command[1:]],
        input=say,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert code is None or done.returncode == code, f"exit code {done.returncode}:\n{output}"
    return output


def program(name: str) -> ModuleType:
    """An example as a module: a new one each time, with nothing of an earlier test in it."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), PROTOCOLS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sends_for(handler: Handler, requests: bytes, answers: int) -> int:
    """By how many sends `handler` answers `requests`, that come at once, with `answers` bytes."""
    sends = 0

    async def counted(connection: anysock.Connection) -> None:
        send_all = connection.send_all

        def count(data):
            nonlocal sends
            sends += bool(data)
            return send_all(data)

        connection.send_all = count  # type: ignore[method-assign]
        await handler(connection)

    async def talk() -> None:
        async with anysock.Server(counted, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as client:
                await client.send_all(requests)
                await client.recv_exactly(answers)

    anysock.run(talk)
    return sends
