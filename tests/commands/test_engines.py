"""``anysock engines``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from anysock.cli.engines import command
from anysock.engines import ENGINES, UNLISTED, EngineEntry, engine_entry, engine_maker, make_engine
from anysock.errors import UsageError
from tests.commands.test_serve import anysock
from tests.harness import ENGINES as TESTED


def test_the_table_shows_every_engine():
    done = anysock("engines", env={"COLUMNS": "160", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0
    for name in ENGINES:
        assert name in done.stdout
    assert "selector *" in done.stdout
    assert "sleeps in recv(2)" in done.stdout


def test_the_table_as_json():
    rows = json.loads(anysock("engines", "--json").stdout)
    assert [row["name"] for row in rows] == list(ENGINES)
    assert all(row["available"] and row["why_not"] is None for row in rows if row["name"] in TESTED)
    assert [row["name"] for row in rows if row["default"]] == ["selector"]


def test_the_table_says_how_to_get_what_is_not_there(monkeypatch):
    entry = EngineEntry(
        name="warp",
        path="anysock.engines.warp:WarpEngine",
        when_no_data="",
        clients="",
        idle_cpu="",
        requires="no_such_module",
        install="pip install 'anysock[warp]'",
    )
    monkeypatch.setitem(ENGINES, "warp", entry)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(command)
    assert "pip install 'anysock[warp]'" in done.output


def test_every_engine_of_the_registry_is_tested():
    assert set(TESTED) == set(ENGINES)


def test_an_engine_that_is_not_available_says_why_and_what_to_do(monkeypatch):
    entry = EngineEntry(
        name="warp",
        path="anysock.engines.warp:WarpEngine",
        when_no_data="",
        clients="",
        idle_cpu="",
        requires="no_such_module",
        install="pip install 'anysock[warp]'",
    )
    monkeypatch.setitem(ENGINES, "warp", entry)
    with pytest.raises(UsageError, match=r"not available here: .*no_such_module: pip install"):
        make_engine("warp")


@pytest.mark.parametrize("name", [*TESTED, *UNLISTED])
def test_the_registry_says_what_the_engine_says(name):
    """Nobody compares names: what is asked of an engine without importing it is in its entry."""
    entry = engine_entry(name)
    engine: Any = engine_maker(name)
    assert (engine.concurrent, engine.one_thread) == (entry.concurrent, entry.one_thread)
    assert engine.loop == entry.loop
