"""Write ``docs/reference/trace.md``: the format of traces, as the code declares it."""

# ruff: noqa: E501 (a row of a table is one line)

from __future__ import annotations

import sys
from collections.abc import Iterator

from anysock.traces.format import ENDS, HEAD_FIELDS, KINDS, VERSION, WAITS

HEAD = f"""\
# Traces: the format

<!-- Made by `make docs/reference/trace.md`. -->

A trace says what a loop, a server or a simulated history has done. [How to make and read one](../howto/trace.md) is a
page of its own.

It is a file of JSON lines (UTF-8, one object a line): the head, and then an event a line. This is version {VERSION}. A
later version may add kinds and fields, which a reader lets pass; what changes otherwise gets a new number, which a reader
refuses if it does not know it.

Times are whole nanoseconds since the trace began, by the engine's clock. Events are to be sorted by `t`: a step is written
when it is over, and so after what it has done. A file without the last event, `end`, was cut off.

## The head

| field | says |
|---|---|
| `anysock_trace` | the version of the format: {VERSION} |
"""

EVENTS = """
## Events

Each has its time `t` and its kind `e`. Fields in italics may be left out.
"""

END = """
## Who writes what

| producer | engines | events |
|---|---|---|
| `anysock serve --trace FILE` | all | those of the server; its file is `0600`, since it names clients |
| | `selector`, `polling`, `uring` | those of the loop as well |
| `anysock.trace(FILE)` | as above | as above, of the servers that start within the block |
| `anysock sim --trace-file FILE` | `sim` | those of a history, and `mark` |
| `examples/traces/rung` | none: a program of [the tutorial](../tutorial/index.md) | what the program does, and its clients |

What a task waits for (`wait`): """


def page() -> Iterator[str]:
    yield HEAD
    for name, says in HEAD_FIELDS.items():
        yield f"| `{name}` | {says} |\n"
    yield EVENTS
    for group in dict.fromkeys(kind.group for kind in KINDS.values()):
        yield f"\n### {group}\n\n| `e` | says | fields |\n|---|---|---|\n"
        for name, kind in KINDS.items():
            if kind.group == group:
                fields = "; ".join(
                    f"{f'`{field}`' if spec.needed else f'*`{field}`*'}: {spec.says}"
                    for field, spec in kind.fields.items()
                )
                yield f"| `{name}` | {kind.says} | {fields} |\n"
    yield END
    yield "; ".join(f"`{name}` {says}" for name, says in WAITS.items())
    yield ". How it ends (`end`): "
    yield "; ".join(f"`{name}`: {says}" for name, says in ENDS.items()) + ".\n"


if __name__ == "__main__":
    sys.stdout.write("".join(page()))
