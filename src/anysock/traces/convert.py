"""A trace as trace events, which https://ui.perfetto.dev and chrome://tracing show.

Of their format ("Trace Event Format", of the Chromium project) this uses complete events (``X``),
instants (``i``), pairs of an object that lives (``b``, ``e``), arrows (``s``, ``f``) and names
(``M``). Times are in microseconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from anysock.traces.format import Line

#: The process of all; its threads are the loop, and then the tasks or the hosts.
_PID = 1
_LOOP, _SERVER, _FIRST_HOST = 0, 1_000_000, 1_000_001

# What an event is called of which there are many.
_SHOWN = {
    "got",
    "sent",
    "wait",
    "fd",
    "until",
    "on",
    "end",
    "error",
    "conn",
    "reason",
    "peer",
    "vain",
}


def trace_events(head: Line, events: Iterable[Line]) -> dict[str, Any]:
    """What a file for Perfetto holds, as JSON has it."""
    converter = _Converter()
    for event in events:
        getattr(converter, event["e"], converter.other)(event)
    named = [_name("process_name", 0, head["title"])]
    named += [_name("thread_name", lane, name) for lane, name in converter.lanes.items()]
    return {
        "displayTimeUnit": "ms",
        "otherData": {name: head[name] for name in ("of", "version", "engine", "clock", "began")},
        "traceEvents": named + converter.found,
    }


def _name(what: str, lane: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": _PID, "tid": lane, "name": what, "args": {"name": name}}


class _Converter:
    """Makes trace events; a method for each kind of events that is not an instant."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.lanes: dict[int, str] = {_LOOP: "loop"}
        self._hosts: dict[str, int] = {}
        self._arrows = itertools.count(1)

    def turn(self, event: Line) -> None:
        slept = event["slept"] / 1000
        shown = {"events": event["events"]}
        self._add("X", "poll", event["t"] / 1000 - slept, _LOOP, dur=slept, args=shown)

    def task(self, event: Line) -> None:
        self.lanes[event["task"]] = event["name"]

    def step(self, event: Line) -> None:
        name = event.get("end") or f"step, then {event.get('wait', 'an error')}"
        lane, ran = event["task"], event["ran"] / 1000
        self._add("X", name, event["t"] / 1000, lane, dur=ran, args=_shown(event))

    def open(self, event: Line) -> None:
        self._conn("b", event)

    def close(self, event: Line) -> None:
        self._conn("e", event)

    def segment(self, event: Line) -> None:
        """A slice at both hosts, and an arrow between them."""
        arrow, when = next(self._arrows), event["t"] / 1000
        name = f"{event['what']} {event['bytes']}" if event["bytes"] else event["what"]
        for phase, host in (("s", event["host"]), ("f", event["to"])):
            lane = self._host(host)
            self._add("X", name, when, lane, dur=0, args={"to": event["to"]})
            more = {"bp": "e"} if phase == "f" else {}
            self._add(phase, "segment", when, lane, cat="segment", id=arrow, **more)

    def other(self, event: Line) -> None:
        lane = _LOOP
        if "host" in event:
            lane = self._host(event["host"])
        elif "task" in event:
            lane = event["task"]
        elif event["e"] in ("accept", "failed", "mark"):
            lane = _SERVER
            self.lanes[_SERVER] = "server"
        name: str = event.get("what") or event["e"]
        args = {key: value for key, value in event.items() if key not in ("t", "e")}
        self._add("i", name, event["t"] / 1000, lane, s="t", args=args)

    def _conn(self, phase: str, event: Line) -> None:
        self.lanes[_SERVER] = "server"
        more = {"cat": "connection", "id": event["conn"], "args": _shown(event)}
        self._add(phase, f"connection {event['conn']}", event["t"] / 1000, _SERVER, **more)

    def _host(self, name: str) -> int:
        lane = self._hosts.setdefault(name, _FIRST_HOST + len(self._hosts))
        self.lanes[lane] = name
        return lane

    def _add(self, phase: str, name: str, when: float, lane: int, **more: Any) -> None:
        self.found.append({"ph": phase, "pid": _PID, "tid": lane, "ts": when, "name": name, **more})


def _shown(event: Line) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name in _SHOWN}
