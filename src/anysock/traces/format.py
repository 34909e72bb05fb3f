"""The format of a trace: JSON lines (https://jsonlines.org), declared once.

The first line is the head; each other one is an event, with its time ``t`` and its kind ``e``. The
page ``docs/reference/trace.md`` is made from `KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from anysock.errors import UsageError

#: The version of the format. A reader takes files of its own version, and fields and kinds in them
#: that it does not know.
VERSION = 1

#: What the first line has besides ``anysock_trace``, the version of the format.
HEAD_FIELDS = {
    "of": "what was traced: `serve`, `code` (a block of `anysock.trace`) or `sim`",
    "version": "the version of Anysock that wrote it",
    "engine": "the engine, such as `selector`",
    "clock": "`monotonic`, or `virtual` in a simulation",
    "began": "the wall-clock time of `t` 0, as text (RFC 3339); null in a simulation",
    "title": "what a viewer calls it",
}

#: An event, or the head.
Line: TypeAlias = dict[str, Any]

# What the values of fields are, and how that is said.
_HOLDS: dict[str, tuple[type, str]] = {
    "whole": (int, "a whole number"),
    "time": (int, "whole nanoseconds"),
    "text": (str, "a text"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event: what its value is (``whole``, ``time`` or ``text``), and says."""

    holds: str
    says: str
    needed: bool = False


def _field(text: str) -> Field:
    """``time! how long …``: what it holds, whether it is always there, what it says."""
    holds, says = text.split(" ", 1)
    return Field(holds.rstrip("!"), says, holds.endswith("!"))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of events: who tells of it, what it says, and its fields besides ``t`` and ``e``."""

    group: str
    says: str
    fields: Mapping[str, Field]


def _kind(group: str, says: str, **fields: str) -> Kind:
    return Kind(group, says, {name: _field(text) for name, text in fields.items()})


_LOOP, _SERVER, _SIM = "The loop", "The server", "A simulated history"

#: Of a task, what it waits for.
WAITS = {
    "read": "until `fd` is readable, or a receive is completed",
    "write": "until `fd` is writable, or a send is completed",
    "sleep": "until the time `until`",
    "event": "until somebody sets an event, puts into a queue, releases a lock",
    "join": "until the task `on` is done",
    "poll": "until the poller has returned (of a program that has no tasks)",
    "ready": "for nothing: it lets others run, and is ready",
}

#: How a task ends.
ENDS = {
    "returned": "it has returned",
    "cancelled": "it was cancelled",
    "failed": "it has raised `error`",
}

#: All kinds of events, by the value of ``e``.
KINDS: dict[str, Kind] = {
    "turn": _kind(
        _LOOP,
        "the poller has returned, and an iteration of the loop goes on",
        slept="time! how long the loop was in the poller before that",
        events="whole! how many descriptors were ready",
    ),
    "task": _kind(
        _LOOP,
        "a task was made, and is ready; or it lived already when the trace began",
        task="whole! its number",
        name="text! its name",
        by="whole the task that has made it",
    ),
    "step": _kind(
        _LOOP,
        "a task has run, from `t` to its next await, or to its end",
        task="whole! its number",
        ran="time! for how long",
        wait="text what it waits for then: " + ", ".join(WAITS),
        fd="whole `read`, `write`: the descriptor that it waits for",
        until="time `sleep`: until when",
        on="whole `join`: the task that it waits for",
        end="text how it has ended: " + ", ".join(ENDS),
        error="text `failed`: what it has raised",
        got="whole bytes of its connection that have come meanwhile",
        sent="whole bytes of its connection that have gone meanwhile",
        vain="whole how many calls were in vain meanwhile: there was nothing yet, or no more",
    ),
    "serves": _kind(
        _LOOP,
        "a task is known to work for a connection: to run its handler, or to be spawned by it",
        task="whole! its number",
        conn="text! the connection's ID",
    ),
    "wake": _kind(
        _LOOP,
        "a task that waited is ready now (one whose descriptor is ready runs at once instead)",
        task="whole! its number",
        by="whole the task that has woken it; left out: a timer, or another thread",
        error="text what is raised in it, such as `Cancelled`",
    ),
    "timer": _kind(
        _LOOP,
        "a timer was set",
        timer="whole! its number",
        due="time! when it is due",
        by="whole the task that has set it",
    ),
    "timer_end": _kind(
        _LOOP,
        "a timer is no more",
        timer="whole! its number",
        how="text! `fired` or `cancelled`",
    ),
    "interest": _kind(
        _LOOP,
        "what the poller is asked to report of a descriptor from now on",
        fd="whole! the descriptor",
        wants="text! `r`, `w`, `rw`, or nothing: it is watched no more",
    ),
    "queued": _kind(
        _SERVER,
        "a client is connected, and waits in the queue of a listener (where the client tells it)",
        conn="text! the connection's ID",
        peer="text! the client's address",
    ),
    "accept": _kind(
        _SERVER,
        "a peer was accepted",
        conn="text! the connection's ID, as in the log",
        peer="text! the peer's address",
    ),
    "open": _kind(
        _SERVER,
        "a connection is open, and its handler is about to run",
        conn="text! its ID",
        peer="text! the client's address",
        via="text the proxy's address",
        fd="whole its descriptor",
    ),
    "failed": _kind(
        _SERVER,
        "a handler has raised an error",
        conn="text! the connection's ID",
        error="text! the error",
    ),
    "close": _kind(
        _SERVER,
        "a connection is closed",
        conn="text! its ID",
        reason="text! why: the reason of the access log",
        error="text what is known besides",
        got="whole! bytes received, in all",
        sent="whole! bytes sent, in all",
        tls="text the version of TLS",
    ),
    "mark": _kind(
        _SERVER,
        "something else has happened, such as the beginning of a drain",
        what="text! its name: that of an [event](events.md), or what the host of a history tells",
        text="text more about it",
        host="text in a simulation: the host; else: the client that tells it",
    ),
    "segment": _kind(
        _SIM,
        "a host sends something to another",
        host="text! who sends",
        to="text! who is to get it",
        what="text! `data`, `fin`, `rst`, `ack`, or `datagram`",
        bytes="whole! how much",
    ),
    "fault": _kind(
        _SIM,
        "a fault strikes",
        host="text! where",
        what="text! its kind",
        text="text what it strikes, and for how long",
    ),
    "finding": _kind(
        _SIM,
        "what was found to be wrong",
        text="text! what it is",
    ),
    "differs": _kind(
        _SIM,
        "from the next event on, this history differs from the nearest one that does not fail",
        text="text! which one that is",
    ),
    "end": _kind(
        "The end",
        "the last line: the trace was ended, and not cut off",
        why="text! `over`, or `full`: the file has its full size, and what came later is left out",
    ),
}  # fmt: skip


def head_of(of: str, engine: str, title: str, *, began: str | None, version: str) -> Line:
    """The first line of a trace."""
    return {
        "anysock_trace": VERSION,
        "of": of,
        "version": version,
        "engine": engine,
        "clock": "virtual" if began is None else "monotonic",
        "began": began,
        "title": title,
    }


def read(path: Path) -> tuple[Line, list[Line]]:
    """The head, and the events in their order, of the trace in a file. Raises `UsageError` for a
    file that can't be read, or that is no trace; the message names the line."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: no trace, but data of another kind") from None
    lines = text.split("\n")
    # What a process had no time to write to its end is no fault of the file.
    cut_off = lines.pop()
    found = list(parse(lines, str(path)))
    if not found:
        what = "is empty" if not cut_off else "no trace: its first line has no end"
        raise UsageError(f"{path}: {what}")
    first, *events = found
    # A step is written when it is over, and so after what it has done.
    events.sort(key=lambda event: event["t"])
    return first, events


def parse(lines: Iterable[str], where: str) -> Iterator[Line]:
    """The head and the events that are in `lines`. Raises `UsageError`: see `read`."""
    for number, text in enumerate(lines, 1):
        place = f"{where}:{number}"
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError(f"{place}: not a line of JSON") from None
        if not isinstance(line, dict):
            raise UsageError(f"{place}: not an object of JSON")
        if number == 1:
            _check_head(line, where)
        else:
            _check(line, place)
        yield line


def _check_head(line: Line, where: str) -> None:
    version = line.get("anysock_trace")
    if version is None:
        raise UsageError(f"{where}: no trace, as `anysock serve --trace` writes it")
    if version != VERSION:
        raise UsageError(f"{where}: a trace of version {version!r}, and this reads {VERSION}")
    for name in HEAD_FIELDS:
        value = line.get(name)
        if not (isinstance(value, str) or (name == "began" and value is None)):
            raise UsageError(f"{where}:1: {name} is to be a text, not {value!r}")


def _check(line: Line, place: str) -> None:
    if type(line.get("t")) is not int or not isinstance(line.get("e"), str):
        raise UsageError(f"{place}: an event has a time t, in whole nanoseconds, and a kind e")
    kind = KINDS.get(line["e"])
    if kind is None:
        return  # of a later version
    for name, field in kind.fields.items():
        value = line.get(name)
        if value is None and not field.needed:
            continue
        wanted, said = _HOLDS[field.holds]
        if type(value) is not wanted:
            raise UsageError(f"{place}: {name} of {line['e']!r} is to be {said}, not {value!r}")
