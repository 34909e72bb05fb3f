"""An engine of one's own, as docs/explanation/write-an-engine.md shows it, keeps the contract."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anysock
from anysock.engines import make_engine
from tests.harness import PATIENCE, STRICT

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "engines" / "select_engine.py"

CONTRACT = [
    "tests/contract/in_process/test_streams.py",
    "tests/contract/in_process/test_tasks.py",
    "tests/contract/in_process/test_library.py",
    "tests/contract/in_process/test_cancellation.py",
    "tests/contract/in_process/test_contexts.py",
    "tests/contract/in_process/test_connect.py",
    "tests/contract/in_process/test_datagrams.py",
    "tests/contract/in_process/test_turns.py",
    "tests/contract/in_process/test_pause.py",
]


@pytest.fixture(scope="module")
def select_engine() -> Any:
    spec = importlib.util.spec_from_file_location("select_engine", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SelectEngine


def test_it_keeps_the_contract():
    """All of the in-process tests but for those that start a program, which does not know it."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parent), str(ROOT), str(ROOT / "src")]),
        "ANYSOCK_TEST_ENGINE": "select_engine:SelectEngine",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [
        "-p",
        "tests.own_engine",
        "-k",
        "not in_a_program and not ctrl_c and not wakes_a_loop",
        *CONTRACT,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 100, done.stdout[-500:]


def test_an_engine_is_taken_wherever_a_name_is(select_engine):
    engine = select_engine()
    assert make_engine(engine) is engine

    async def main():
        async with anysock.Server("echo", bind="127.0.0.1:0", engine=engine) as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                await connection.send_all(b"hello")
                return await connection.recv()

    assert anysock.run(main, engine=engine) == b"hello"


def test_a_server_is_served_by_it():
    """As a program, and to its end by a signal."""
    program = f"import runpy, sys; sys.argv[:] = ['x']; runpy.run_path({str(EXAMPLE)!r})['main'](0)"
    with subprocess.Popen(
        [sys.executable, *STRICT, "-c", program], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"listening on tcp://127\.0\.0\.1:(\d+) \(select\)", line)
        assert found is not None, line

        async def ask():
            async with await anysock.connect(f"127.0.0.1:{found[1]}") as connection:
                await connection.send_all(b"hello\n")
                return await connection.recv()

        assert anysock.run(ask) == b"hello\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_what_is_no_engine_is_refused(select_engine):
    with pytest.raises(anysock.UsageError, match=r"SelectEngine is the class of an engine: give"):
        make_engine(select_engine)
    with pytest.raises(anysock.UsageError, match=r"unknown engine <object"):
        make_engine(object())  # type: ignore[arg-type]


def test_an_engine_is_made_for_one_run(select_engine):
    engine = select_engine()
    anysock.run(anysock.sleep, 0, engine=engine)
    with pytest.raises(anysock.UsageError, match=r"has run already, .* make another"):
        anysock.run(anysock.sleep, 0, engine=engine)


def test_several_workers_make_engines_of_their_own(select_engine):
    engine = select_engine()
    with pytest.raises(anysock.UsageError, match="each of several workers makes its own"):
        anysock.ServeOptions(engine=engine, workers=2)
    anysock.run(anysock.sleep, 0, engine=engine)  # and gives its descriptors back


def test_the_page_shows_the_whole_of_it():
    page = (ROOT / "docs" / "explanation" / "write-an-engine.md").read_text()
    assert "literalinclude} ../../examples/engines/select_engine.py" in page
    assert len(EXAMPLE.read_text().splitlines()) <= 70
