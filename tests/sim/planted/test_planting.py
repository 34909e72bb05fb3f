"""The planted faults are still where they were planted, and nothing else changes."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

from tests.house import SOURCE
from tests.sim.planted import handlers
from tests.sim.planted.catalogue import ALL, HANDLERS, LIMITS, STREAMS, Planted
from tests.sim.planted.planting import Change, NotPlanted, changed, plant

PATCHES = [each for each in ALL.values() if each.changes]


def test_there_are_thirty_and_each_has_its_name():
    assert [len(HANDLERS), len(LIMITS), len(STREAMS)] == [10, 10, 10]
    assert len({each.says for each in ALL.values()}) == len(ALL) == 38


@pytest.mark.parametrize("planted", PATCHES, ids=lambda each: each.name)
def test_a_patch_applies_and_compiles(planted: Planted):
    for file in {each.file for each in planted.changes}:
        source = changed(file, planted.changes)
        assert source != (SOURCE / file).read_text()
        compile(source, file, "exec")


@pytest.mark.parametrize("planted", ALL.values(), ids=lambda each: each.name)
def test_its_handler_is_there(planted: Planted):
    module, _, name = planted.handler.partition(":")
    if name:
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, types.FunctionType)
        assert found.__module__ == handlers.__name__
    else:
        assert planted.handler in ("echo", "lines")


@pytest.mark.parametrize("old", ["no such text", "self"])
def test_what_does_not_stand_there_once_is_not_planted(old: str):
    with pytest.raises(NotPlanted, match="times, and not once"):
        changed("loop/timers.py", [Change("loop/timers.py", old, "")])


def test_what_is_imported_already_is_not_planted():
    with pytest.raises(NotPlanted, match=r"imported already: anysock\.errors"):
        plant([Change("errors.py", "from __future__ import annotations\n", "")])


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.split()


def test_a_module_is_imported_with_its_change_and_the_disk_stays_as_it_is():
    program = (
        "from tests.sim.planted.planting import Change, plant\n"
        "plant([Change('server/gate.py', 'FULL_SECONDS = 1.0', 'FULL_SECONDS = 7.5')])\n"
        "import anysock.server.gate as gate\n"
        "source = gate.__loader__.get_source(gate.__name__)\n"
        "print(gate.FULL_SECONDS, 'FULL_SECONDS = 7.5' in source)"
    )
    assert run(program) == ["7.5", "True"]
    assert "FULL_SECONDS = 1.0" in (SOURCE / "server/gate.py").read_text()


def test_the_modules_of_the_engine_sim_have_the_change_too():
    program = (
        "from tests.sim.planted.planting import Change, plant\n"
        "plant([Change('loop/kernel.py', 'MAX_EVENTS = 512', 'MAX_EVENTS = 3')])\n"
        "from anysock.engines.sim.relinked import relinked\n"
        "from anysock.loop import kernel\n"
        "print(kernel.MAX_EVENTS, relinked('anysock.loop.kernel').MAX_EVENTS)"
    )
    assert run(program) == ["3", "3"]
