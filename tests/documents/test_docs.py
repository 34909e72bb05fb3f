"""What the documents say is true: promises name tests that exist, and code that is shown runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anysock
from tests.harness import ENGINES, ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROMISES = (ROOT / "docs" / "promises.md").read_text()


def existing_tests() -> dict[str, set[str]]:
    """The names of the tests in each file."""
    return {
        str(path.relative_to(ROOT / "tests")): set(
            re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        )
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def test_every_promise_names_a_test_that_exists():
    existing = existing_tests()
    lines = [line for line in PROMISES.splitlines() if line.startswith("- ")]
    assert len(lines) > 40
    for line in lines:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", line)
        assert named, f"no test is named: {line}"
        for file, test in named:
            found = [names for path, names in existing.items() if path.endswith(file)]
            assert found, f"no such file: {file}"
            assert any(test in names for names in found), f"no such test: {file}::{test}"


def test_the_readme_shows_every_engine():
    for name in ENGINES:
        assert f"| `{name}` |" in README


def test_the_handler_in_the_readme_runs_as_it_is_printed(tmp_path, start_server):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    (tmp_path / "shout.py").write_text(code[0])
    server = start_server("shout:shout", cwd=tmp_path)
    assert server.ask(b"hello\n") == b"HELLO\n"


def test_the_session_in_the_readme_is_what_happens(start_server):
    server: ServerProcess = start_server(
        "lines", *("--recv-size", "2"), *("--prefix", "Buffer: "), "-v", engine="blocking"
    )
    assert server.ask(b"hello\r\n") == b"Buffer: hello\r\n"
    server.wait_for("All the data is")
    session = README.split("--prefix 'Buffer: ' -v\n")[1].split("```")[0]
    shown = re.sub(r"8000|20456|61137", "N", session).splitlines()
    happened = [re.sub(r"\b\d{4,7}\b", "N", line) for line in server.lines]
    assert happened[: len(shown)] == shown


def test_talk_in_the_readme_is_what_happens(start_server):
    server = start_server()
    command = f"printf 'hello\\n' | {sys.executable} -m anysock talk :{server.port} 2>&1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=30, check=True
    )
    session = README.split("talk :8000\n")[1].split("```")[0]
    assert done.stdout.split() == session.split()


MODULES = [
    module.name
    for module in pkgutil.walk_packages(anysock.__path__, "anysock.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what they write is not for the checkout
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs=vars(anysock) | {"anysock": anysock})
    assert results.failed == 0


def test_there_are_examples_in_docstrings():
    parser = doctest.DocTestFinder()
    examples = [
        example
        for name in MODULES
        for test in parser.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) >= 6


def test_the_map_in_the_readme_is_up_to_date():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        picture = importlib.import_module("house_map").picture
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "_static" / "house.svg").read_text() == picture(), (
        "run: make docs/_static/house.svg"
    )
