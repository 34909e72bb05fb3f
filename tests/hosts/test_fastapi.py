"""A server within the lifespan of a FastAPI application, by uvicorn, on both of its loops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import anysock
from tests.harness import PATIENCE, exchange, free_port, wait_until

APP = """
import contextlib
import fastapi
import anysock
from anysock.engines.current import current_engine


async def shout(connection):
    async for line in connection.lines():
        await connection.send_all(line.upper())


@contextlib.asynccontextmanager
async def lifespan(app):
    async with anysock.Server(shout, bind="127.0.0.1:0", drain_timeout=5) as app.state.server:
        yield
    # Another one, in the same loop.
    async with anysock.Server("echo", bind="127.0.0.1:0") as server:
        async with await anysock.connect(server.addresses[0]) as connection:
            await connection.send_all(b"parting")
            print("then:", await connection.recv_exactly(7), flush=True)


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/")
async def state():
    server = app.state.server
    async with await anysock.connect(server.addresses[0]) as connection:
        await connection.send_all(b"from within\\n")
        answer = await connection.recv_line()
    return {
        "address": server.addresses[0],
        "engine": current_engine().name,
        "accepted": server.counters.accepted,
        "answer": answer.decode(),
    }
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_begins_and_ends_with_the_application(tmp_path, loop):
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-X", "dev", "-W", "error", "-m", "uvicorn", "app:app"),
            *("--loop", loop, "--port", str(port), "--log-level", "warning"),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(anysock.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        told = wait_until(lambda: ask(port, process), "the application answers")
        assert told["engine"] == loop
        assert told["answer"] == "FROM WITHIN\n"
        host, _, tcp_port = told["address"].removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(tcp_port)), PATIENCE) as client:
            assert exchange(client, b"hello\n" * 1000) == b"HELLO\n" * 1000
        with socket.create_connection((host, int(tcp_port)), PATIENCE) as at_rest:
            at_rest.sendall(b"half a line")
            assert ask(port, process)["accepted"] == 4
            process.send_signal(signal.SIGTERM)
            assert at_rest.recv(100) == b"HALF A LINE"
            assert at_rest.recv(100) == b""
        output, _ = process.communicate(timeout=PATIENCE)
        # On a busy machine, asyncio tells of steps that take long: that is not what this is about.
        output = re.sub(r"^Executing <.*\n", "", output, flags=re.MULTILINE)
    finally:
        process.kill()
        process.wait()
    assert output == "then: b'parting'\n"


def ask(port, process):
    """What the application says of itself; None: it does not listen yet."""
    assert process.poll() is None, process.stdout.read()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
            return json.load(answer)
    except OSError:
        return None
