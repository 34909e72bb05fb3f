"""Framing without a socket: bytes in, lines out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.errors import LineTooLong
from anysock.net.lines import LineBuffer


def all_lines(buffer: LineBuffer, limit: int | None = None) -> list[bytes]:
    lines = []
    while (line := buffer.next_line(limit)) is not None:
        lines.append(line)
    return lines


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


# Bytes with many line endings among them.
texts = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc"]), max_size=40).map(b"".join)


@given(data=texts, cuts=st.lists(st.integers(0, 80), max_size=8))
def test_lines_do_not_depend_on_the_chunks(data, cuts):
    buffer = LineBuffer()
    lines = []
    for chunk in cut(data, cuts):
        buffer.feed(chunk)
        lines += all_lines(buffer)
    # What bytes.splitlines would do, if LF alone ended lines.
    expected = data.split(b"\n")
    assert lines == [line + b"\n" for line in expected[:-1]]
    assert len(buffer) == len(expected[-1])
    assert buffer.take_rest() == expected[-1]
    assert not buffer


@given(data=texts, cuts=st.lists(st.integers(0, 80), max_size=8), limit=st.integers(1, 6))
def test_the_limit_does_not_depend_on_the_chunks(data, cuts, limit):
    """A line is too long by its own length, not by how it came."""
    wanted = []
    too_long = False
    for line in data.split(b"\n")[:-1]:
        if len(line.removesuffix(b"\r")) > limit:
            too_long = True
            break
        wanted.append(line + b"\n")
    rest = data.split(b"\n")[-1]
    too_long = too_long or len(rest.removesuffix(b"\r")) > limit

    buffer = LineBuffer()
    lines: list[bytes] = []
    raised = False
    for chunk in cut(data, cuts):
        buffer.feed(chunk)
        try:
            while (line := buffer.next_line(limit)) is not None:
                lines.append(line)
        except LineTooLong:
            raised = True
            break
    assert lines == wanted
    assert raised == too_long


@given(chunks=st.lists(st.binary(max_size=20)), sizes=st.lists(st.integers(1, 30)))
def test_taking_gives_every_byte_once_and_in_order(chunks, sizes):
    buffer = LineBuffer()
    taken = b""
    for chunk in chunks:
        buffer.feed(chunk)
        if sizes:
            taken += buffer.take(sizes.pop())
    assert taken + buffer.take_rest() == b"".join(chunks)


def test_a_cr_at_the_limit_may_still_be_half_of_the_ending():
    buffer = LineBuffer()
    buffer.feed(b"12345\r")
    assert buffer.next_line(5) is None
    buffer.feed(b"\n")
    assert buffer.next_line(5) == b"12345\r\n"
    buffer.feed(b"12345\rX")
    with pytest.raises(LineTooLong):
        buffer.next_line(5)


def test_a_line_that_is_too_long_says_how_long_it_may_be():
    buffer = LineBuffer()
    buffer.feed(b"123456\n")
    with pytest.raises(LineTooLong, match="line longer than 5 bytes") as caught:
        buffer.next_line(5)
    assert caught.value.limit == 5


class CountingData(bytearray):
    """A bytearray that counts the bytes its searches look at, and those that it moves."""

    looked_at = 0
    moved = 0

    def find(self, *arguments):
        found = super().find(*arguments)
        CountingData.looked_at += (len(self) if found < 0 else found + 1) - arguments[1]
        return found

    def __delitem__(self, place):
        super().__delitem__(place)
        CountingData.moved += len(self)


@pytest.fixture(autouse=True)
def _count_from_zero():
    CountingData.looked_at = CountingData.moved = 0


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_an_endless_line_is_searched_in_linear_time(size):
    buffer = LineBuffer()
    buffer._data = CountingData()
    total = size * 5000
    for _ in range(5000):
        buffer.feed(b"x" * size)
        assert buffer.next_line() is None
    assert CountingData.looked_at == total


def test_many_lines_in_one_chunk_are_not_moved_one_by_one():
    buffer = LineBuffer()
    buffer._data = CountingData()
    buffer.feed(b"\n" * 100_000)
    assert sum(1 for _ in all_lines(buffer)) == 100_000
    assert not buffer
    # Each move takes the smaller part of what is there: all together less than there ever was.
    assert CountingData.moved < 100_000
    assert CountingData.looked_at == 100_000


def test_a_line_that_is_too_long_is_not_searched_again():
    buffer = LineBuffer()
    buffer._data = CountingData(b"x" * 10_000 + b"\n")
    for _ in range(100):
        with pytest.raises(LineTooLong):
            buffer.next_line(5)
    assert CountingData.looked_at < 10_200
    assert buffer.next_line() == b"x" * 10_000 + b"\n"


def test_less_than_nothing_cannot_be_taken():
    buffer = LineBuffer()
    buffer.feed(b"abc")
    with pytest.raises(ValueError, match="can't take -1 bytes"):
        buffer.take(-1)
    assert buffer.take_rest() == b"abc"
