"""What is told of an exploration, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from anysock.sim.explore import Asked, Tally


def summary(asked: Asked, tally: Tally, seconds: float, inert: Collection[str]) -> Iterator[str]:
    """The lines about all histories; `seconds` is how long they took, and `inert` are the faults
    that never struck."""
    last = asked.seed + max(tally.histories, 1) - 1
    seeds = f"seed {last}" if last == asked.seed else f"seeds {asked.seed} to {last}"
    yield f"{counted(tally.histories, 'history')} of {asked.handler}, {seeds}: " + speed(
        tally, seconds
    )
    sometimes = Counter({name: tally.fired[name] for name in tally.fired if "/" in name})
    if faults := tally.fired - sometimes:
        yield f"faults: {listed(faults)}"
    if inert:
        yield f"never struck: {', '.join(inert)}"
    if sometimes:
        names = Counter({name.partition("/")[2]: number for name, number in sometimes.items()})
        yield f"sometimes: {listed(names)}"
    if tally.reasons:
        yield f"ends: {listed(tally.reasons)}"


def speed(tally: Tally, seconds: float) -> str:
    """``104/s, 912 s of virtual time``."""
    rate = tally.histories / seconds if seconds else 0.0
    return f"{rate:,.0f}/s, {tally.seconds:,.0f} s of virtual time"


def counted(number: int, what: str) -> str:
    """``1 history``, ``2 histories``."""
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what[:-1]}ies" if what.endswith("y") else f"{number:,} {what}s"


def listed(counts: Counter[str]) -> str:
    """Names and numbers, the most frequent first."""
    several = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{name} {number:,}" for name, number in several)
