"""The list that scripts enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tests.sim.parity.net import Net

Script: TypeAlias = Callable[[Net], None]

SCRIPTS: dict[str, Script] = {}


def script(func: Script) -> Script:
    assert func.__name__ not in SCRIPTS, f"there are two scripts {func.__name__}"
    SCRIPTS[func.__name__] = func
    return func
