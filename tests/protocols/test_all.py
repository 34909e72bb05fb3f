"""What is true of each example of a protocol."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.harness import PATIENCE, STRICT
from tests.protocols.conftest import PROTOCOLS

PROGRAMS = sorted(path.name for path in PROTOCOLS.glob("*.py"))


def test_there_are_some():
    assert PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_short_and_stands_on_the_public_library_alone(name):
    text = (PROTOCOLS / name).read_text()
    assert len(text.splitlines()) < 200
    assert "import anysock" in text
    assert not re.search(r"^\s*(from|import) anysock\.", text, re.MULTILINE)
    # What depends on the I/O model is the library's business.
    assert not re.search(r"^\s*(from|import) (asyncio|socket|trio|uvloop)\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_says_how_it_is_used(name):
    command = [sys.executable, *STRICT, str(PROTOCOLS / name), "--help"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert b"--bind" in done.stdout
    assert b"--engine" in done.stdout
    assert not done.stderr


def test_the_page_lists_each_example():
    page = (PROTOCOLS / "README.md").read_text()
    assert re.findall(r"^\| \[(\w+\.py)\]", page, re.MULTILINE) == PROGRAMS


def test_the_examples_are_typed():
    """By themselves: a file named redis.py would be taken for the client that the tests import."""
    paths = [str(PROTOCOLS / name) for name in PROGRAMS]
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11"]
    cache = ["--config-file", os.devnull, "--cache-dir", ".mypy_cache/protocols"]
    root = PROTOCOLS.parents[1]
    done = subprocess.run(
        [*command, *cache, *paths],
        env=os.environ | {"MYPYPATH": str(root / "src")},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
