"""The compiled modules are used where they are of the sources that are there, and nowhere else."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from anysock.engines.sim import overlay

PACKAGE = Path(overlay.__file__).parent

LIBRARY = f"anysock_sim__mypyc{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the sources, and what looks like what was made of them."""
    for name in overlay.MODULES:
        shutil.copy(PACKAGE / f"{name}.py", tmp_path)
    folder = tmp_path / overlay.FOLDER
    folder.mkdir()
    (folder / LIBRARY).touch()
    (folder / overlay.DIGEST).write_text(overlay.digest_of(tmp_path))
    return tmp_path


def test_they_are_used_where_they_are_of_these_sources(package):
    assert overlay.compiled_in(package) == package / "compiled"


@pytest.mark.parametrize("name", ["agenda", "unix"])
def test_a_source_that_was_changed_is_run_itself(package, name):
    with (package / f"{name}.py").open("a") as source:
        source.write("# changed\n")
    assert overlay.compiled_in(package) is None


def test_what_another_interpreter_has_is_not_used(package):
    (package / "compiled" / LIBRARY).unlink()
    assert overlay.compiled_in(package) is None


def test_an_installation_that_was_cut_off_is_not_used(package):
    (package / "compiled" / "sources").unlink()
    assert overlay.compiled_in(package) is None


def test_without_sources_they_are_not_used(package):
    (package / "dice.py").unlink()
    assert overlay.compiled_in(package) is None


def test_all_that_could_be_compiled_is_named():
    left = {each.stem for each in PACKAGE.glob("*.py")} - set(overlay.MODULES)
    named = "__init__ engine fault_kinds files names overlay relinked system tls_chance"
    assert left == set(named.split())
