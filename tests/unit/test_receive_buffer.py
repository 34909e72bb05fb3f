"""Framing without a socket: bytes in; lines, frames and pieces out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.errors import BadFrame, FrameTooLong, LineTooLong, MessageTooLong, UsageError
from anysock.net.frames import Framing, framing
from anysock.net.receive_buffer import ReceiveBuffer


def all_lines(buffer: ReceiveBuffer, limit: int | None = None) -> list[bytes]:
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
    buffer = ReceiveBuffer()
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

    buffer = ReceiveBuffer()
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
    buffer = ReceiveBuffer()
    taken = b""
    for chunk in chunks:
        buffer.feed(chunk)
        if sizes:
            taken += buffer.take(sizes.pop())
    assert taken + buffer.take_rest() == b"".join(chunks)


def test_a_cr_at_the_limit_may_still_be_half_of_the_ending():
    buffer = ReceiveBuffer()
    buffer.feed(b"12345\r")
    assert buffer.next_line(5) is None
    buffer.feed(b"\n")
    assert buffer.next_line(5) == b"12345\r\n"
    buffer.feed(b"12345\rX")
    with pytest.raises(LineTooLong):
        buffer.next_line(5)


def test_a_line_that_is_too_long_says_how_long_it_may_be():
    buffer = ReceiveBuffer()
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
        _, since, until = (*arguments, len(self))[:3]
        CountingData.looked_at += (until if found < 0 else found + 1) - since
        return found

    def __delitem__(self, place):
        super().__delitem__(place)
        CountingData.moved += len(self)


@pytest.fixture(autouse=True)
def _count_from_zero():
    CountingData.looked_at = CountingData.moved = 0


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_an_endless_line_is_searched_in_linear_time(size):
    buffer = ReceiveBuffer()
    buffer.data = CountingData(b"x" * 2 * size)
    for number in range(5000):
        buffer.feed(b"x" * size)
        assert isinstance(buffer.data, CountingData)  # what came is added to it, and not it to that
        assert buffer.next_line() is None
        assert len(buffer) == size * (number + 3)
    assert CountingData.looked_at == size * 5002


def test_many_lines_in_one_chunk_are_not_moved_one_by_one():
    buffer = ReceiveBuffer()
    buffer.data = CountingData(b"\n" * 100_000)
    assert sum(1 for _ in all_lines(buffer)) == 100_000
    assert not buffer
    # Each move takes the smaller part of what is there: all together less than there ever was.
    assert CountingData.moved < 100_000
    assert CountingData.looked_at == 100_000


def test_a_chunk_of_whole_lines_is_not_copied_but_line_by_line():
    buffer = ReceiveBuffer()
    chunk = b"one\ntwo\nthr"
    buffer.feed(chunk)
    assert buffer.data is chunk
    assert all_lines(buffer) == [b"one\n", b"two\n"]
    buffer.feed(b"ee\n")
    assert all_lines(buffer) == [b"three\n"]
    buffer.feed(chunk)
    assert buffer.data is chunk


@given(
    data=st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"\r\n", b"\n"]), max_size=40).map(
        b"".join
    ),
    cuts=st.lists(st.integers(0, 80), max_size=8),
    separators=st.lists(st.sampled_from([b"a", b"ab", b"bab", b"\r\n", b"\n", b"b\n"]), min_size=1),
    limit=st.none() | st.integers(0, 6),
)
def test_until_does_not_depend_on_the_chunks(data, cuts, separators, limit):
    """A piece ends where the first separator is complete, whatever came in one chunk."""
    asked = separators[0] if len(separators) == 1 else tuple(separators)
    wanted, rest, too_long = [], data, False
    while True:
        ends = [rest.find(each) + len(each) for each in separators if each in rest]
        if not ends:
            break
        end = min(ends)
        matched = next(each for each in separators if rest[:end].endswith(each))
        if limit is not None and end - len(matched) > limit:
            too_long = True
            break
        wanted.append(rest[:end])
        rest = rest[end:]
    longest = max(map(len, separators))
    too_long = too_long or (limit is not None and len(rest) - (longest - 1) > limit)

    buffer = ReceiveBuffer()
    pieces, raised = [], False
    for chunk in cut(data, cuts):
        buffer.feed(chunk)
        try:
            while (piece := buffer.next_until(asked, limit)) is not None:
                pieces.append(piece)
        except MessageTooLong:
            raised = True
            break
    assert pieces == wanted
    assert raised == too_long
    if not raised:
        assert buffer.take_rest() == rest


@given(
    frames=st.lists(st.binary(max_size=300), max_size=8),
    prefix=st.sampled_from([2, 4, 8, "varint"]),
    order=st.sampled_from(["big", "little"]),
    cuts=st.lists(st.integers(0, 900), max_size=12),
)
def test_frames_do_not_depend_on_the_chunks(frames, prefix, order, cuts):
    shape = framing(prefix, order, 300)
    data = b"".join(shape.prefixed(len(frame)) + frame for frame in frames)
    buffer, came = ReceiveBuffer(), []
    for chunk in cut(data, cuts):
        buffer.feed(chunk)
        while (frame := buffer.next_frame(shape)) is not None:
            came.append(frame)
    assert came == frames
    assert not buffer


@given(data=st.binary(max_size=40), prefix=st.sampled_from([1, 2, 4, 8, "varint"]))
def test_whatever_comes_is_a_frame_or_a_fault_of_the_peer(data, prefix):
    """And nothing is taken by a fault, nor by the beginning of a frame."""
    shape = framing(prefix, "big", 20)
    buffer = ReceiveBuffer()
    buffer.feed(data)
    while buffer:
        before = buffer.peek()
        try:
            frame = buffer.next_frame(shape)
        except (FrameTooLong, BadFrame):
            assert buffer.peek() == before
            break
        if frame is None:
            assert buffer.peek() == before
            break
        assert len(frame) <= 20
        assert before == shape.prefixed(len(frame)) + frame + buffer.peek() or prefix == "varint"


@given(size=st.integers(0, (1 << 64) - 1))
def test_a_varint_says_what_was_written(size):
    written = framing("varint", "big", 0).prefixed(size)
    # As protocol buffers has it: seven bits a byte, the lowest first.
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written)) == size
    assert all(byte & 0x80 for byte in written[:-1])
    assert written[-1] < 0x80
    assert Framing("varint", "big", size).head(written, 0) == (len(written), len(written) + size)


def test_a_varint_without_an_end_is_a_fault_at_its_tenth_byte():
    buffer = ReceiveBuffer()
    buffer.feed(b"\x80" * 9)
    shape = framing("varint", "big", 100)
    assert buffer.next_frame(shape) is None
    buffer.feed(b"\x80")
    with pytest.raises(BadFrame, match="more than 10 bytes"):
        buffer.next_frame(shape)


def test_a_frame_is_too_long_as_soon_as_its_prefix_says_so():
    buffer = ReceiveBuffer()
    buffer.feed(b"\x00\x00\x01")
    shape = framing(4, "big", 255)
    assert buffer.next_frame(shape) is None
    buffer.feed(b"\x00")
    with pytest.raises(FrameTooLong, match="frame longer than 255 bytes") as caught:
        buffer.next_frame(shape)
    assert (caught.value.limit, caught.value.size) == (255, 256)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((3, "big", 1), "1, 2, 4 or 8 bytes, or .varint., not "),
        ((True, "big", 1), "1, 2, 4 or 8 bytes, or .varint., not "),
        ((4, "middle", 1), 'the order of bytes is "big" or "little"'),
        ((4, "big", 1.5), "a whole number of bytes"),
        ((4, "big", -1), "0 bytes or more"),
    ],
)
def test_a_framing_that_makes_no_sense_is_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        framing(*arguments)


def test_a_frame_that_its_prefix_cannot_say_is_refused():
    with pytest.raises(UsageError, match="256 bytes: a prefix of 1 bytes can say at most 255"):
        framing(1, "big", 0).prefixed(256)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=9), min_size=1),
    taken=st.integers(0, 9),
    back=st.binary(max_size=9),
)
def test_what_is_unread_comes_first(chunks, taken, back):
    buffer = ReceiveBuffer()
    for chunk in chunks:
        buffer.feed(chunk)
    whole = b"".join(chunks)
    assert buffer.take(taken) == whole[:taken]
    buffer.unread(back)
    assert buffer.peek() == back + whole[taken:]
    assert buffer.peek(3) == (back + whole[taken:])[:3]
    assert buffer.take_rest() == back + whole[taken:]


def test_a_line_that_is_too_long_is_not_searched_again():
    buffer = ReceiveBuffer()
    buffer.data = CountingData(b"x" * 10_000 + b"\n")
    for _ in range(100):
        with pytest.raises(LineTooLong):
            buffer.next_line(5)
    assert CountingData.looked_at < 10_200
    assert buffer.next_line() == b"x" * 10_000 + b"\n"


def test_what_lies_beyond_the_limit_is_not_searched():
    """A peer that sends what is too long, and is answered, has it skipped by the piece."""
    buffer = ReceiveBuffer()
    buffer.data = CountingData(b"x" * 1_000_000)
    for _ in range(999):
        with pytest.raises(MessageTooLong):
            buffer.next_until(b"\r\n.\r\n", 900)
        buffer.take(1000)
    assert buffer.next_until(b"\r\n.\r\n", 1000) is None
    assert CountingData.looked_at < 1_000_000


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_was_taken_is_unread_without_a_copy(kind):
    buffer = ReceiveBuffer()
    buffer.data = kind(b"x" * 1_000_000)
    copies = 0
    for _ in range(990):
        taken = buffer.take(1000)
        before = buffer.data
        buffer.unread(taken[-4:])
        copies += buffer.data is not before
    assert len(buffer) == 1_000_000 - 990 * 996
    # One for each time that what was taken has made room: half of what was left, each time.
    assert copies <= 5


def test_less_than_nothing_cannot_be_taken():
    buffer = ReceiveBuffer()
    buffer.feed(b"abc")
    with pytest.raises(ValueError, match="can't take -1 bytes"):
        buffer.take(-1)
    assert buffer.take_rest() == b"abc"
