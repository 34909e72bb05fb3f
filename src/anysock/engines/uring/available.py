"""Whether io_uring can be used here. That it can't is nothing unusual."""

from __future__ import annotations

import errno
import importlib
import platform
from pathlib import Path
from types import ModuleType

#: The oldest kernel that has all that is used: DEFER_TASKRUN is of 6.1.
OLDEST = (6, 1)

# 1: for processes without CAP_SYS_ADMIN, 2: for all (since Linux 6.6).
_SWITCH = Path("/proc/sys/kernel/io_uring_disabled")


def module() -> ModuleType:
    """The compiled part. Raises ImportError where it was left out."""
    return importlib.import_module("anysock._uring")


def why_not() -> str | None:
    """Why it can't be used, in one line; None when it can."""
    if platform.system() != "Linux":
        return "needs io_uring, which is Linux's: use 'selector'"
    release = platform.release()
    try:
        version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    except ValueError:
        version = OLDEST  # whose numbers we can't read: the ring itself says whether it can be
    if version < OLDEST:
        return f"needs Linux {OLDEST[0]}.{OLDEST[1]}, and this is {release}: use 'selector'"
    try:
        ring = module().Ring()
    except ImportError as error:
        return (
            f"needs its compiled part, which is not there: install where a C compiler is ({error})"
        )
    try:
        ring.set_up()
    except OSError as error:
        return f"needs io_uring: {_reason(error)}"
    ring.close()
    return None


def _reason(error: OSError) -> str:
    """Why io_uring_setup(2) refuses."""
    if error.errno == errno.ENOSYS:
        return "the kernel has none, or a seccomp filter hides it"
    if error.errno == errno.EPERM:
        if _SWITCH.exists() and _SWITCH.read_text().strip() != "0":
            return f"it is switched off, in {_SWITCH}"
        return "a seccomp filter refuses it, as Docker's does by default"
    return f"{error.strerror} (a limit, such as ulimit -l?)"
