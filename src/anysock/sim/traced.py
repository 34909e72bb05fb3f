"""A history as a trace, which the viewer shows; and the history that comes nearest to one that
fails, and does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anysock import __version__
from anysock.engines.sim.fault_kinds import FAULTS
from anysock.sim import wall
from anysock.sim.finding import Finding
from anysock.sim.plan import Plan
from anysock.sim.scenario import Outcome
from anysock.sim.shrink import SHRINKERS
from anysock.sim.story import in_words
from anysock.traces.format import Line, head_of
from anysock.traces.writer import TraceWriter

# What one host sends to another, in the words of a history's trace; and how many details it has.
_SENT = {"data", "fin", "rst", "ack", "datagram"}

# What is of no interest to a reader.
_LEFT_OUT = {"carried"}

# How many histories are tried as the nearest, and for how many seconds of computing, at most.
_TRIES, _SECONDS = 60, 2.0


class Nearest(NamedTuple):
    """A history that does not fail, and how far it goes as the one that does: so many entries."""

    text: str
    common: int


def nearest(plan: Plan, outcome: Outcome, run: Callable[[Plan], Outcome]) -> Nearest | None:
    """Of the histories that lack something of `plan`, whose history is `outcome` and fails, the
    one that goes the same way for longest and does not fail. None: there is none such."""
    best: Nearest | None = None
    assert outcome.finding is not None
    trace = outcome.network.trace
    tries, ends_at = 0, wall.computing() + _SECONDS
    for smaller in SHRINKERS:
        for candidate in smaller(plan, outcome.finding):
            if tries >= _TRIES or wall.computing() >= ends_at:
                return best
            if candidate == plan:
                continue
            tries += 1
            other = run(candidate)
            common = _in_common(trace, other.network.trace)
            if other.finding is None and (best is None or common > best.common):
                best = Nearest(f"a history that does not fail ({_lacks(plan, candidate)})", common)
    return best


def _in_common(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> int:
    """With how many equal entries two traces begin."""
    number = 0
    for number, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine[:5] != its[:5]:  # (the sixth is a checksum of all that was sent before)
            return number
    return min(len(one), len(other), number + 1)


def _lacks(plan: Plan, smaller: Plan) -> str:
    """What a plan lacks, in words."""
    faults = [kind for kind in plan.faults if kind not in smaller.faults]
    options = [name for name in plan.options if smaller.options.get(name) != plan.options[name]]
    clients = len(plan.clients) - len(smaller.clients)
    lacks = [f"no {kind}" for kind in faults]
    lacks += [f"another {name}" for name in options]
    if clients:
        lacks.append(f"{clients} client{'s' * (clients > 1)} less")
    return ", ".join(lacks) or "a little less is said or goes wrong"


def lines_of(
    trace: Sequence[Sequence[Any]], finding: Finding | None, near: Nearest | None = None
) -> list[Line]:
    """The events of a history."""
    lines: list[Line] = []
    for number, entry in enumerate(trace):
        if near is not None and number == near.common:
            lines.append({"t": _ns(entry[0]), "e": "differs", "text": near.text})
        if entry[2] not in _LEFT_OUT:
            lines.append(_line(entry))
    if finding is not None:
        lines.append({"t": _ns(finding.at), "e": "finding", "text": finding.text})
    lines.sort(key=lambda line: line["t"])
    return lines


def write_trace(
    path: Path, title: str, trace: Sequence[Sequence[Any]], finding: Finding | None,
    near: Nearest | None = None,
) -> None:  # fmt: skip
    """Write a history into a file. Raises `StartError` when it can't be written."""
    writer = TraceWriter(path)
    writer.line(head_of("sim", "sim", title, began=None, version=__version__))
    for line in lines_of(trace, finding, near):
        writer.line(line)
    writer.close(_ns(trace[-1][0]) if trace else 0)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _line(entry: Sequence[Any]) -> Line:
    when, host, what, *details = entry
    line: Line = {"t": _ns(when)}
    if what in _SENT and len(details) >= 2 and isinstance(details[1], int):
        sent = {"host": host, "to": str(details[0]), "what": what, "bytes": details[1]}
        return line | {"e": "segment", **sent}
    line |= {"e": "fault" if what in FAULTS else "mark", "host": host, "what": str(what)}
    if details:
        line["text"] = " ".join(map(in_words, details))
    return line
