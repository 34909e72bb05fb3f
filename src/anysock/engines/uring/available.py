"""Whether io_uring can be used here. That it can't is nothing unusual."""

from __future__ import annotations

import importlib
import platform
from types import ModuleType

from anysock.machine.io_uring import OLDEST, kernel, why_refused


def module() -> ModuleType:
    """The compiled part. Raises ImportError where it was left out."""
    return importlib.import_module("anysock._uring")


def why_not() -> str | None:
    """Why it can't be used, in one line; None when it can."""
    if platform.system() != "Linux":
        return "needs io_uring, which is Linux's: use 'selector'"
    if kernel() < OLDEST:
        return (
            f"needs Linux {OLDEST[0]}.{OLDEST[1]}, and this is {platform.release()}: use 'selector'"
        )
    try:
        ring = module().Ring()
    except ImportError as error:
        return (
            f"needs its compiled part, which is not there: install where a C compiler is ({error})"
        )
    try:
        ring.set_up()
    except OSError as error:
        return f"needs io_uring: {why_refused(error)}"
    ring.close()
    return None
