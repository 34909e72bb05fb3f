"""The second modules of the simulation are all that hold on to one of them."""

from __future__ import annotations

import re

import pytest

from anysock.engines.sim.relinked import _RELINKED
from tests.house import SOURCE

FOLDERS = [SOURCE / "engines" / name for name in ("nonblocking", "posix")]


@pytest.mark.parametrize(
    "path",
    [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))],
    ids=lambda path: path.stem,
)
def test_what_imports_a_second_module_is_one(path):
    """Else a class of it would stand on the first, whose system calls are the machine's."""
    name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    imported = set(re.findall(r"^from (anysock\.[\w.]+) import", path.read_text(), re.MULTILINE))
    if imported & _RELINKED:
        assert name in _RELINKED
