"""The fuzzers, for a few seconds each; by hand, they run for as long as one likes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_proxy_protocol(tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not there for this platform, or this Python")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fuzz_proxy_protocol"),
            *("-runs=20000", "-max_total_time=5", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
