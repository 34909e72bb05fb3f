"""What type checkers say of a user's program, and that it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import anysock
from tests.harness import CONCURRENT_ENGINES, ENGINES
from tests.typing import user_program

PROGRAM = Path(user_program.__file__)
SOURCE = Path(anysock.__file__).parents[1]


def test_mypy_strict_finds_no_fault(tmp_path):
    """As a user has it: with no configuration of ours."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
            *("--cache-dir", str(tmp_path), str(PROGRAM)),
        ],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["strict"])
def test_pyright_finds_no_fault(tmp_path, mode):
    settings = {
        "include": [str(PROGRAM)],
        "extraPaths": [str(SOURCE)],
        "typeCheckingMode": mode,
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    told = [
        f"{each['range']['start']['line'] + 1}: {each['message']} ({each.get('rule')})"
        for each in found["generalDiagnostics"]
    ]
    assert not told, "\n".join(told)


def test_it_runs(concurrent_engine):
    lines = 3 * 2  # each of three clients is greeted, and gets an answer
    assert anysock.run(user_program.main, concurrent_engine, engine=concurrent_engine) == lines + 3


def test_its_own_tests_pass(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anysock"),
            *("-p", "anysock.testing.plugin", "-c", os.devnull, "--rootdir", str(tmp_path)),
            str(PROGRAM),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"{len(ENGINES) + len(CONCURRENT_ENGINES) + 2 + 1} passed" in done.stdout, done.stdout
