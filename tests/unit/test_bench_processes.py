"""Processes that are started are ended, whatever comes between."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from anysock.bench.processes import program

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def test_its_output_is_read_and_it_is_gone_at_the_end():
    with program(SLEEP) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    assert process.returncode == -signal.SIGKILL


def test_a_ctrl_c_while_it_is_being_started_leaves_nothing_over(monkeypatch):
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def interrupted(*args, **options) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(KeyboardInterrupt), program(SLEEP):
            pytest.fail("the block was entered")
    assert started[0].returncode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGINT) is handler


def test_one_that_can_not_be_started_changes_nothing():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(FileNotFoundError), program(["/nowhere/to-be-found"]):
        pytest.fail("the block was entered")
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_may_be_started_by_any_thread():
    codes: list[int | None] = []

    def run() -> None:
        with program(SLEEP) as process:
            pass
        codes.append(process.returncode)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [-signal.SIGKILL]
