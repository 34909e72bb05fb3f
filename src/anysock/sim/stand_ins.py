"""What code of a history gets of the real machine's clocks and chance when they are simulated: the
clocks of its host, and numbers that come from the seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from anysock.engines.base import Engine

_CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time")

# As they are before anything stands in for them.
_gmtime, _localtime, _strftime, _ctime = time.gmtime, time.localtime, time.strftime, time.ctime


def stand_ins(engine: Callable[[], Engine], chance: random.Random) -> dict[str, Callable[..., Any]]:
    """Functions by the names of the real ones. `engine()` is that of the host whose turn it is."""

    def now() -> float:
        return engine().now()

    def wall() -> float:
        return engine().time()

    def in_nanoseconds(clock: Callable[[], float]) -> Callable[[], int]:
        return lambda: round(clock() * 1e9)

    def clock_gettime(which: int) -> float:
        return wall() if which == time.CLOCK_REALTIME else now()

    found: dict[str, Callable[..., Any]] = {
        "time.time": wall,
        "time.time_ns": in_nanoseconds(wall),
        "time.clock_gettime": clock_gettime,
        "time.clock_gettime_ns": lambda which: round(clock_gettime(which) * 1e9),
        "time.gmtime": lambda *_: _gmtime(wall()),
        "time.localtime": lambda *_: _localtime(wall()),
        "time.ctime": lambda *_: _ctime(wall()),
        "time.strftime": lambda form: _strftime(form, _localtime(wall())),
        "os.urandom": chance.randbytes,
        "os.getrandom": lambda size, *_: chance.randbytes(size),
    }
    for name in ("date.today", "datetime.now", "datetime.today", "datetime.utcnow"):
        found[f"datetime.{name}"] = wall
    for name in _CLOCKS:
        found[f"time.{name}"] = now
        found[f"time.{name}_ns"] = in_nanoseconds(now)
    return found | {
        f"random.{name}": getattr(chance, name)
        for name in random.__all__
        if callable(getattr(chance, name, None))
    }
