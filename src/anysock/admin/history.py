"""The last ten minutes of a server, as the live page draws them."""

from __future__ import annotations

import collections
from typing import Any

from anysock.admin.figures import Figures
from anysock.admin.query import LiveQuery
from anysock.admin.watching import percentile
from anysock.engines.base import Event
from anysock.engines.current import current_engine

# How long samples are kept, in seconds.
KEEP_SECONDS = 600.0

# Seconds between two samples while somebody looks, and while nobody does: then there still is a
# history for the first who looks, at a tenth of what little it costs.
SAMPLE_SECONDS = 1.0
IDLE_SAMPLE_SECONDS = 10.0

# Somebody looks who has asked within this time, in seconds.
WATCHED_SECONDS = 5.0

# The percentile of a sample is of the steps of so many seconds: of one, there may be few.
STEPS_SECONDS = 10.0

_NOBODY = LiveQuery(most=0, watch=False)

Sample = dict[str, Any]


class History:
    """Samples of `figures`, taken by `run`, a task on the endpoint's own engine, where all of this
    is to be called."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._samples: collections.deque[Sample] = collections.deque()
        self._last: tuple[float, dict[str, Any]] | None = None
        # How many steps took how long, and when that was told.
        self._steps: collections.deque[tuple[float, list[int]]] = collections.deque()
        self._watched_at = -WATCHED_SECONDS
        self._looked: Event | None = None

    def since(self, at: float) -> list[Sample]:
        """The samples taken after `at`, in seconds since 1970, the oldest first."""
        return [sample for sample in self._samples if sample["time"] > at]

    def watched(self) -> None:
        """Somebody looks."""
        engine = current_engine()
        idle = engine.now() - self._watched_at >= WATCHED_SECONDS
        self._watched_at = engine.now()
        if idle and self._looked is not None:
            self._looked.set()

    async def run(self) -> None:
        """Take samples until cancelled."""
        engine = current_engine()
        while True:
            self.take(engine.now(), engine.time())
            self._looked = engine.event()
            if engine.now() - self._watched_at < WATCHED_SECONDS:
                await engine.sleep(SAMPLE_SECONDS)
            else:
                async with engine.scope(IDLE_SAMPLE_SECONDS):
                    await self._looked.wait()

    def take(self, now: float, time: float) -> None:
        """Take a sample, `now` on the engine's clock, which is `time` since 1970."""
        found = self._figures.live(_NOBODY)
        before, self._last = self._last, (now, found)
        p99 = self._p99(now, found["steps"])
        if before is None:
            return
        seconds = max(now - before[0], 0.001)
        sample = _sample(before[1]["figures"], found["figures"], seconds)
        self._samples.append({"time": round(time, 3), **sample, "p99": p99})
        while self._samples[0]["time"] < time - KEEP_SECONDS:
            self._samples.popleft()

    def _p99(self, now: float, steps: list[int] | None) -> float | None:
        """The time that 99 % of the last steps did not exceed; None: none was timed."""
        if steps is None:
            self._steps.clear()
            return None
        self._steps.append((now, steps))
        while now - self._steps[0][0] > STEPS_SECONDS:
            self._steps.popleft()
        pairs = zip(self._steps[0][1], steps, strict=True)
        # (Those of a worker that has ended are gone.)
        return percentile([max(after - before, 0) for before, after in pairs], 0.99)


def _sample(was: dict[str, Any], now: dict[str, Any], seconds: float) -> Sample:
    """What has happened between two snapshots, with rates a second."""

    def rate(key: str) -> float:
        # A server does not count backwards; one that was started again does, once.
        return round(max(float(now[key] - was[key]), 0.0) / seconds, 3)

    ends = {
        reason: round((count - was["closed"].get(reason, 0)) / seconds, 3)
        for reason, count in now["closed"].items()
        if count > was["closed"].get(reason, 0)
    }
    return {
        "connections": now["connections"],
        "accepted": rate("accepted"),
        "bytes_in": rate("bytes_received"),
        "bytes_out": rate("bytes_sent"),
        "ends": ends,
        "lag": round(now["lag"], 6),
        "workers": now["workers"],
    }
