"""What must hold in a history: always, or at some moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from anysock.sim.guards import RealWorld


class Broken(NamedTuple):
    """A condition that does not hold."""

    #: As `Finding.kind`.
    kind: str
    what: str
    #: What the condition raised, if it did.
    error: Exception | None = None


@dataclass(slots=True)
class _Condition:
    name: str
    holds: Callable[[], object]
    #: Of one that must come true: by when, in virtual seconds.
    by: float | None = None
    #: What was promised, in words.
    promise: str = "always"


class Checks:
    """The conditions of one history. They are asked after each of its steps."""

    def __init__(self) -> None:
        self._always: list[_Condition] = []
        self._eventually: list[_Condition] = []

    def always(self, name: str, holds: Callable[[], object]) -> None:
        """From now on, `holds()` must be true."""
        self._always.append(_Condition(name, holds))

    def eventually(
        self, name: str, holds: Callable[[], object], by: float | None, promise: str
    ) -> None:
        """`holds()` must be true at one moment up to `by`; None: up to the end."""
        self._eventually.append(_Condition(name, holds, by, promise))

    def look(self, now: float) -> Broken | None:
        """What does not hold at `now`."""
        for each in self._always:
            broken = _broken(each)
            if broken is not None:
                return broken
        if self._eventually:
            left = []
            for each in self._eventually:
                broken = _broken(each)
                if broken is not None:
                    if broken.error is not None or (each.by is not None and now >= each.by):
                        return broken
                    left.append(each)
            self._eventually = left
        return None

    def at_the_end(self, now: float) -> Broken | None:
        """What does not hold when the history is over."""
        broken = self.look(now)
        if broken is None and self._eventually:
            return _broken(self._eventually[0])
        return broken


def _broken(condition: _Condition) -> Broken | None:
    name, error = condition.name, None
    try:
        if condition.holds():
            return None
        how = "does not hold" if condition.promise == "always" else "has not come true"
    except RealWorld:
        raise
    except Exception as raised:  # noqa: BLE001
        error, how = raised, f"raised {type(raised).__name__}: {raised}"
    kind = f"{condition.promise.split()[0]} {name}"
    return Broken(kind, f"{condition.promise} {name!r}: {how}", error)
