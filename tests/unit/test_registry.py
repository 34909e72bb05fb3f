"""The registry of engines: what is asked of an engine is asked there, and never of its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from anysock.engines import ENGINES
from anysock.engines.current import current_engine
from anysock.tasks.runtime import run

SOURCE = Path(__file__).parents[2] / "src" / "anysock"
HERE = [name for name, entry in ENGINES.items() if entry.why_not() is None]


def names_compared_in(path: Path) -> list[str]:
    """Where a file compares something with the name of an engine, as ``line: name``. Names of
    modules, which are looked for in `sys.modules`, are none."""
    compared = [
        node.pattern if isinstance(node, ast.match_case) else node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare | ast.match_case)
    ]
    return [
        f"{part.lineno}: {part.value}"
        for node in compared
        if "sys.modules" not in ast.unparse(node)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in ENGINES
    ]


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_nobody_compares_names_of_engines(path):
    assert not names_compared_in(path)


@pytest.mark.parametrize(
    "code", ['name == "blocking"', 'name in ("trio", "x")', 'match name:\n case "uvloop": pass']
)
def test_a_comparison_is_seen(code, tmp_path):
    file = tmp_path / "code.py"
    file.write_text(code)
    assert len(names_compared_in(file)) == 1


@pytest.mark.parametrize("name", HERE)
def test_the_registry_says_what_the_engine_says(name):
    async def engine_says() -> tuple[str, bool, bool]:
        engine = current_engine()
        return engine.name, engine.concurrent, engine.one_thread

    entry = ENGINES[name]
    assert run(engine_says, engine=name) == (entry.name, entry.concurrent, entry.one_thread)
