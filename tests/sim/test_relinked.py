"""The second modules of the simulation are all that hold on to one of them."""

from __future__ import annotations

import re
import sys

import pytest

from anysock.engines.sim.relinked import _RELINKED, NonblockingEngine, relinked
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


def test_no_base_of_its_engine_and_its_streams_makes_real_system_calls():
    """A base in a module of its own must be linked anew, too."""
    streams = relinked("anysock.engines.nonblocking.streams")
    for base in (*streams.NonblockingStream.__mro__, *NonblockingEngine.__mro__):
        real = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        if not real.keys().isdisjoint(("fcntl", "os", "select", "socket", "time")):
            assert base is not real.get(base.__name__), f"link {base.__module__} anew"
