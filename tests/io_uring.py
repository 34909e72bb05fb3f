"""Where io_uring is there, and where it should be."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from anysock.lab.claims import NotMeasured
from anysock.lab.ring import Ring

#: The oldest kernel with all that we use of it: DEFER_TASKRUN is of 6.1.
OLDEST = (6, 1)


def why_no_io_uring() -> str | None:
    """Why there is none here; None where there is."""
    if _kernel() < OLDEST:
        return f"Linux {platform.release()} is older than {OLDEST[0]}.{OLDEST[1]}"
    try:
        Ring().close()
    except NotMeasured as error:
        return str(error)
    return None


def needs_io_uring() -> None:
    """Skip a test where there is none. Under CI, fail where nothing explains that there is none."""
    if why_not := why_no_io_uring():
        assert not (os.environ.get("CI") and _should_be_there()), why_not
        pytest.skip(why_not)


def _kernel() -> tuple[int, ...]:
    if platform.system() != "Linux":
        return (0,)
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


def _should_be_there() -> bool:
    """Whether the kernel is new enough, not told to refuse it, and no seccomp filter is in the way
    (a container's often is)."""
    switch = Path("/proc/sys/kernel/io_uring_disabled")
    filtered = "Seccomp:\t0" not in Path("/proc/self/status").read_text()
    on = not switch.exists() or switch.read_text().strip() == "0"
    return _kernel() >= OLDEST and on and not filtered
