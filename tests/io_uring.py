"""Where io_uring is there, and where it should be."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

import pytest

from anysock.engines import ENGINES
from anysock.lab.claims import NotMeasured
from anysock.lab.ring import Ring
from anysock.machine.io_uring import OLDEST, SWITCH, kernel


@functools.cache
def why_no_io_uring() -> str | None:
    """Why there is none here; None where there is."""
    if kernel() < OLDEST:
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


@functools.cache
def _why_not_the_engine() -> str | None:
    return ENGINES["uring"].why_not()


def needs_the_engine() -> None:
    """The same of the engine `uring`, which needs its compiled part besides."""
    needs_io_uring()
    if why_not := _why_not_the_engine():
        assert not os.environ.get("CI"), why_not
        pytest.skip(why_not)


def _should_be_there() -> bool:
    """Whether the kernel is new enough, not told to refuse it, and no seccomp filter is in the way
    (a container's often is)."""
    filtered = "Seccomp:\t0" not in Path("/proc/self/status").read_text()
    on = not SWITCH.exists() or SWITCH.read_text().strip() == "0"
    return kernel() >= OLDEST and on and not filtered
