"""What tasks wait for, in words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from anysock.sim.origins import Origin, origin_of


def where(coro: Any) -> str:
    """Where a coroutine stands that is paused: the innermost line of the user's own, or else of
    anybody's."""
    users, last = "", ""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            last = f"{os.path.basename(code.co_filename)}:{frame.f_lineno}, {code.co_name}()"
            if origin_of(code.co_filename) is Origin.USER:
                users = last
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return users or last or "?"


def in_words(waiting: Iterable[tuple[str, str, Any]]) -> str:
    """Hosts, names of tasks and their coroutines."""
    told = [f"{host}: {name} at {where(coro)}" for host, name, coro in waiting]
    return "; ".join(told) or "no task"
