"""How much memory there is: read from a tree of files like those of Linux."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from anysock.machine.memory import available, resident

MACHINE = 8_000_000 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "proc/meminfo", "MemTotal:        8000000 kB\nMemFree:          100 kB\n")
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_cgroup_it_is_the_machine_s(root):
    assert available(root) == MACHINE


@pytest.mark.parametrize(
    ("where", "limit", "found"),
    [
        ("app.slice/mine", "1000000\n", 1_000_000),
        ("app.slice", "2000000\n", 2_000_000),  # of the one that it is in
        (".", "3000000\n", 3_000_000),  # in a container that is told the name of the host
        ("app.slice/mine", "max\n", MACHINE),
        ("app.slice/mine", "", MACHINE),
        ("app.slice/mine", f"{MACHINE + 4096}\n", MACHINE),
        ("app.slice/other", "1000000\n", MACHINE),
    ],
)
def test_version_2(root, where, limit, found):
    put(root / "proc/self/cgroup", "0::/app.slice/mine\n")
    put(root / "sys/fs/cgroup" / where / "memory.max", limit)
    assert available(root) == found


@pytest.mark.parametrize(
    ("limit", "found"),
    [("1000000\n", 1_000_000), ("9223372036854771712\n", MACHINE), ("-1\n", MACHINE)],
)
def test_version_1(root, limit, found):
    lines = ["12:cpu,cpuacct:/mine", "11:name=systemd:/", "4:memory,other:/docker/mine", "0::/"]
    put(root / "proc/self/cgroup", "\n".join(lines))
    put(root / "sys/fs/cgroup/memory/docker/mine/memory.limit_in_bytes", limit)
    assert available(root) == found


def test_a_name_that_leads_elsewhere_leads_nowhere(root):
    put(root / "proc/self/cgroup", "0::/../../mine\n")
    put(root / "sys/mine/memory.max", "1000000\n")
    assert available(root) == MACHINE


def test_nothing_that_tells_is_no_failure(tmp_path):
    assert available(tmp_path) > 1 << 20


def test_what_is_used_is_known():
    used = resident()
    assert used is not None
    # What getrusage(2) tells is the most that it ever was, in KiB; and not kept to the page.
    assert 1 << 20 < used < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (8 << 20)
