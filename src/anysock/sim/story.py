"""The story of a history: what its trace says, in a few lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from anysock.engines.sim.fault_kinds import FAULTS
from anysock.net.printable import printable
from anysock.sim.finding import Finding

#: An entry of a trace: exactly, and for people.
Entry: TypeAlias = tuple[str, str]

#: How many lines a story has at most.
LINES = 20

# What one host sends to another, in the words of the trace, and what that is to be told as.
_SENT = {"fin": "end of stream", "rst": "RESET"}

# What is of no interest to whoever looks for a fault.
_LEFT_OUT = {"ack", "carried"}

# How much of a text is shown.
_WIDTH = 110


def story(
    trace: Sequence[Sequence[Any]], finding: Finding | None = None, lines: int = LINES
) -> list[str]:
    """At most so many lines of a trace, and then what was found. Where there are more, those in the
    middle are left out, but for the faults."""
    told = list(_told([entry for entry in trace if entry[2] not in _LEFT_OUT]))
    end = [] if finding is None else [_line(finding.at, "=>", finding.text)]
    room = lines - len(end)
    if len(told) > room:
        told = _cut(told, room)
    return [line for _, line in told] + end


def written(trace: Sequence[Sequence[Any]]) -> list[Entry]:
    """All entries of a trace. Of data, a checksum is told, of all that was sent so far."""
    return [
        (repr(entry), f"{line}, {entry[5]:08x}" if len(entry) > 5 and entry[2] == "data" else line)
        for entry, line in zip(trace, all_lines(trace), strict=True)
    ]


def all_lines(trace: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A line for each entry of a trace."""
    return (_entry(entry)[1] for entry in trace)


def _told(trace: Sequence[Sequence[Any]]) -> Iterator[tuple[bool, str]]:
    """Lines, and whether each tells of a fault. Segments that follow each other on the same way are
    one line."""
    place = 0
    while place < len(trace):
        entry = trace[place]
        end = place + 1
        if entry[2] == "data":
            while end < len(trace) and trace[end][1:4] == entry[1:4]:
                end += 1
        if end - place > 1:
            size = sum(each[4] for each in trace[place:end])
            sent = f"{size} B in {end - place} segments"
            yield False, _line(entry[0], entry[1], f"> {entry[3]}  {sent}")
        else:
            yield _entry(entry)
        place = end


def _entry(entry: Sequence[Any]) -> tuple[bool, str]:
    when, host, what, *details = entry
    if what == "data" and len(details) > 1:
        return False, _line(when, host, f"> {details[0]}  {details[1]} B")
    if what in _SENT and len(details) == 2:
        return what == "rst", _line(when, host, f"> {details[0]}  {_SENT[what]}")
    is_fault = what in FAULTS
    text = " ".join([what.upper() if is_fault else what, *map(in_words, details)])
    return is_fault, _line(when, host, text)


def in_words(detail: Any) -> str:
    """A detail of an entry."""
    if isinstance(detail, tuple) and len(detail) >= 2:
        return f"{detail[0]}:{detail[1]}"
    return f"{detail:g}" if isinstance(detail, float) else str(detail)


def _line(when: float, host: str, text: str) -> str:
    shown = printable(text)
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return f"{when:10.4f}  {host:<9} {shown}"


def _cut(told: Sequence[tuple[bool, str]], room: int) -> list[tuple[bool, str]]:
    """The first and the last of them, and faults from between."""
    before, after = room // 4, room // 2
    end = len(told) - after
    faults = [place for place in range(before, end) if told[place][0]]
    while True:
        kept = [*range(before), *faults, *range(end, len(told))]
        lines: list[tuple[bool, str]] = []
        for place, then in zip(kept, [*kept[1:], len(told)], strict=True):
            lines.append(told[place])
            if then - place > 1:
                lines.append((False, f"{'':12}… {then - place - 1} more …"))
        if len(lines) <= room or not faults:
            return lines
        # The latest say most.
        faults.pop(0)
