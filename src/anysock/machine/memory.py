"""How much memory there is for this process, and how much of it is used."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

# Bytes, where the system does not say how many there are.
_UNKNOWN = 1 << 30


def available(root: Path = Path("/")) -> int:
    """How many bytes there are for this process: those of the machine, or of its cgroup, or of one
    that this is in (cgroups(7): memory.max of version 2, memory.limit_in_bytes of version 1).
    `root` is for tests."""
    found = [_of_the_machine(root)]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min((each for each in found if each > 0), default=_UNKNOWN)


def _of_the_machine(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":  # in kB (proc(5))
            return _number(rest.removesuffix("kB")) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _limits(mounted: Path, path: str, name: str) -> list[int]:
    """The limits of the cgroup at `path`, and of all that it is in. In a container, `path` may be
    the one that the host knows; then what is mounted is the container's own."""
    inside = PurePosixPath(path.lstrip("/"))
    folders = [inside, *inside.parents]
    return [
        _number(_text(mounted / folder / name)) for folder in folders if ".." not in str(folder)
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> int:
    """0: there is none, as in ``max``, "no limit"."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def resident() -> int | None:
    """How many bytes of memory this process has now; None: the system does not say."""
    fields = _text(Path("/proc/self/statm")).split()  # in pages; the second is what is resident
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None
