"""What there is to know of io_uring before one has it: since which kernel, and why it is refused,
which is nothing unusual in a container."""

from __future__ import annotations

import errno
import platform
from pathlib import Path

#: The oldest kernel that has all that is used: DEFER_TASKRUN is of 6.1.
OLDEST = (6, 1)

#: 1: for processes without CAP_SYS_ADMIN, 2: for all (since Linux 6.6).
SWITCH = Path("/proc/sys/kernel/io_uring_disabled")


def kernel() -> tuple[int, ...]:
    """The version of the kernel, such as (6, 1); (0,) where it is none of Linux."""
    if platform.system() != "Linux":
        return (0,)
    try:
        return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    except ValueError:
        return OLDEST  # of which we can't tell: a ring itself says whether it can be had


def why_refused(error: OSError) -> str:
    """Why io_uring_setup(2) has refused."""
    if error.errno == errno.ENOSYS:
        return "the kernel has none (Linux 5.1 was the first), or a seccomp filter hides it"
    if error.errno == errno.EPERM:
        if SWITCH.exists() and SWITCH.read_text().strip() != "0":
            return f"{SWITCH} has switched it off"
        return "a seccomp filter refuses it, as Docker's does by default"
    return f"{error.strerror} (a limit, such as ulimit -l?)"
