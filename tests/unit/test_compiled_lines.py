"""An iterator over lines, in Python and compiled: the same, whatever comes, however it is awaited.

What is awaited is driven here by hand, as the loop does it.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Awaitable, Generator
from typing import Any

import pytest

from anysock.errors import LineTooLong
from anysock.machine import compiled
from anysock.net.receive_buffer import ReceiveBuffer
from anysock.streams.connection import Connection
from anysock.streams.receiving import Lines, compiled_lines

WAIT = object()


class Interrupted(Exception):
    pass


class Script:
    """A stream: each receive waits once, and brings the next of `chunks`; the end again and
    again."""

    vectored = True
    #: What waits for a receive of it.
    line: Any

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)
        self.interrupted = 0
        self.closed = 0

    @types.coroutine
    def recv(self, max_bytes: int | None = None) -> Generator[Any, None, Any]:
        try:
            yield WAIT
        except Interrupted:
            # As a wait that is retried.
            self.interrupted += 1
        except GeneratorExit:
            self.closed += 1
            raise
        return self.chunks[0] if self.chunks == [b""] else self.chunks.pop(0)

    send_all = recv


@pytest.fixture(params=["python", "compiled"])
def iterator(request) -> type[Lines]:
    if request.param == "python":
        return Lines
    if compiled.fast is None:
        pytest.skip(f"there is no compiled path: {compiled.why_not}")
    return compiled_lines(compiled.fast)


def begun(iterator: type[Lines], *chunks: Any, max_bytes: int = 100) -> tuple[Any, Any]:
    """An iterator over the lines of `chunks`, with its buffer, as after the first line."""
    stream: Any = Script(*chunks)
    connection: Connection = Connection(stream)
    connection.unread(b"")
    assert isinstance(connection._buffer, ReceiveBuffer)
    return iterator(connection, max_bytes), stream


def awaited(line: Awaitable[bytes], *, waits: int = 1) -> bytes:
    steps = line.__await__()
    for _ in range(waits):
        assert next(steps) is WAIT
    with pytest.raises(StopIteration) as ended:
        next(steps)
    value: bytes = ended.value.value
    return value


def rest_of(lines: Any) -> list[bytes]:
    """All that is left of it, by a program of its user's."""

    async def collect() -> list[bytes]:
        return [line async for line in lines]

    program = collect()
    while True:
        try:
            assert program.send(None) is WAIT
        except StopIteration as ended:
            found: list[bytes] = ended.value
            return found


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"one\n", b"two\r\n", b"\n", b""], [b"one\n", b"two\r\n", b"\n"]),
        ([b"one\ntwo\nthr", b"ee\n", b""], [b"one\n", b"two\n", b"three\n"]),
        ([b"o", b"n", b"e", b"\n", b""], [b"one\n"]),
        ([b"one\n\n", b""], [b"one\n", b"\n"]),
        ([b"no end", b""], [b"no end"]),
        ([b"\n\nno", b" end", b""], [b"\n", b"\n", b"no end"]),
        ([bytearray(b"one\n"), b"two\n", b""], [b"one\n", b"two\n"]),
        ([b""], []),
    ],
)
def test_lines_are_the_same_in_whatever_pieces_they_come(iterator, chunks, expected):
    lines, stream = begun(iterator, *chunks)
    assert rest_of(lines) == expected
    assert stream.chunks == [b""]


@pytest.mark.parametrize(
    ("line", "max_bytes", "too_long"),
    [
        (b"12345\n", 5, False),
        (b"12345\r\n", 5, False),
        (b"12345\n", 6, False),
        (b"123456\n", 5, True),
        (b"123456", 5, True),
        (b"\n", 0, False),
        (b"1\n", 0, True),
        (b"12345\n", 2**80, False),
    ],
)
def test_a_line_has_its_limit(iterator, line, max_bytes, too_long):
    lines, _ = begun(iterator, line, b"", max_bytes=max_bytes)
    if too_long:
        with pytest.raises(LineTooLong):
            rest_of(lines)
        assert lines._connection.peek() == line  # it stays to be received
        assert isinstance(lines._connection.fault, LineTooLong)
    else:
        assert rest_of(lines) == [line]


def test_what_is_raised_where_it_waits_may_be_caught_by_the_stream(iterator):
    lines, stream = begun(iterator, b"one\n", b"two\nthr")
    for expected in (b"one\n", b"two\n"):
        line = lines.__anext__()
        assert line.send(None) is WAIT
        with pytest.raises(StopIteration) as ended:
            line.throw(Interrupted())
        assert ended.value.value == expected
    assert stream.interrupted == 2
    assert lines._connection.peek() == b"thr"


def test_a_cancelled_wait_has_taken_nothing(iterator):
    lines, stream = begun(iterator, b"one\n")
    line = lines.__anext__()
    assert line.send(None) is WAIT
    with pytest.raises(KeyError, match="cancelled"):
        line.throw(KeyError("cancelled"))
    with pytest.raises(RuntimeError, match="awaited"):
        line.send(None)
    assert stream.chunks == [b"one\n"]
    assert awaited(lines.__anext__()) == b"one\n"


def test_a_cancelled_wait_for_the_rest_of_a_line_keeps_its_beginning(iterator):
    lines, _ = begun(iterator, b"on", b"e\n")
    line = lines.__anext__()
    assert line.send(None) is WAIT
    assert line.send(None) is WAIT
    with pytest.raises(KeyError):
        line.throw(KeyError())
    assert lines._connection.peek() == b"on"
    assert awaited(lines.__anext__()) == b"one\n"


def test_closing_one_closes_what_it_awaits(iterator):
    lines, stream = begun(iterator, b"one\n")
    line = lines.__anext__()
    assert line.send(None) is WAIT
    line.close()
    line.close()
    assert stream.closed == 1
    with pytest.raises(RuntimeError, match="awaited"):
        line.send(None)
    with pytest.raises(RuntimeError, match="awaited"):
        line.throw(KeyError())


def test_what_a_receive_raises_is_raised(iterator):
    lines, _ = begun(iterator)  # `pop` of an empty list
    with pytest.raises(IndexError):
        rest_of(lines)


def test_it_says_where_it_waits(iterator):
    lines, _ = begun(iterator, b"one\n")
    line = lines.__anext__()
    assert line.send(None) is WAIT
    waits = line
    while (inner := getattr(waits, "cr_await", None)) is not None:
        waits = inner
    assert waits.gi_code.co_name == "recv"
    line.close()


def test_a_stream_may_give_any_awaitable(iterator):
    class Ready:
        def __await__(self) -> Generator[Any, None, bytes]:
            return b"ready\n"
            yield

    async def plain(max_bytes: int | None = None) -> bytes:
        return b"plain\n"

    lines, stream = begun(iterator)
    stream.recv = Ready
    assert awaited(lines.__anext__(), waits=0) == b"ready\n"
    stream.recv = plain
    assert awaited(lines.__anext__(), waits=0) == b"plain\n"
    stream.recv = lambda: 7
    with pytest.raises(TypeError, match="int"):
        awaited(lines.__anext__(), waits=0)


@pytest.mark.skipif(compiled.fast is None, reason=f"there is no compiled path: {compiled.why_not}")
def test_one_that_awaits_itself_is_an_error():
    class Itself(compiled_lines(compiled.fast)):  # type: ignore[misc]
        def _otherwise(self, data: bytes) -> Any:
            return line

    lines, _ = begun(Itself, b"no end")
    line = lines.__anext__()
    assert line.send(None) is WAIT
    with pytest.raises(RecursionError):
        line.send(None)


def test_nothing_is_left_of_lines(iterator):
    def some() -> None:
        lines, _ = begun(iterator, b"one\n", b"tw", b"o\nthree\n", b"four\n", b"")
        rest_of(lines)
        lines, _ = begun(iterator, b"one\n")
        line = lines.__anext__()
        line.send(None)
        line.close()
        # One that is given up, and a circle: what waits is known to what it waits for.
        lines, stream = begun(iterator, b"one\n")
        stream.line = lines.__anext__()
        stream.line.send(None)

    def count() -> int:
        gc.collect()
        return len(gc.get_objects())

    some()
    before, of_the_end = count(), sys.getrefcount(WAIT)
    for _ in range(100):
        some()
    assert count() - before < 20
    assert sys.getrefcount(WAIT) - of_the_end < 5
