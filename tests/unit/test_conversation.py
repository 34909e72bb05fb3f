"""What the load generator sends, and what it finds wrong with what comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.bench.generator.conversation import Conversation, max_read, pattern_of
from anysock.bench.generator.faults import Fault


@given(st.integers(0, 15), st.integers(1, 5000), st.sampled_from(["bytes", "lines", "frames"]))
def test_a_pattern_is_one_message_over_and_over(number, size, form):
    lines, frames = form == "lines", form == "frames"
    size = max(size, {"bytes": 1, "lines": 2, "frames": 4}[form])
    pattern = pattern_of(number, size, lines=lines, frames=frames)
    message = pattern[:size]
    assert pattern == message * (len(pattern) // size)
    assert len(pattern) >= size - 1 + max_read(size)
    if lines:
        assert message.endswith(b"\r\n")
        assert message.count(b"\n") == message.count(b"\r") == 1
    if frames:
        assert int.from_bytes(message[:4], "big") == len(message) - 4


def test_the_messages_of_two_connections_differ():
    for form in ({}, {"lines": True}, {"frames": True}):
        assert len({pattern_of(number, 64, **form)[:64] for number in range(16)}) == 16


class Stand:
    """Enough of a stream for a conversation whose bytes come from the test."""

    descriptor = None


def conversation(size=10, sent=3):
    nothing: Any = Stand()
    talk = Conversation(nothing, nothing, pattern_of(1, size), size)
    talk._unanswered = sent * size
    return talk


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_messages_are_counted_however_they_are_cut(cuts):
    """Whole messages are those whose last byte has come."""
    size, sent = 10, 30
    talk = conversation(size, sent)
    stream = pattern_of(1, size)[: size * sent]
    position = counted = 0
    for cut in cuts:
        data = stream[position : position + cut]
        if not data:
            break
        position += len(data)
        counted += talk._check(data)
        assert counted == position // size


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "closed by the server"),
        (b"x", "corrupt"),
        (pattern_of(2, 10)[:10], "corrupt"),
        (pattern_of(1, 10)[:31], "more than was sent"),
    ],
)
def test_faults(data, kind):
    with pytest.raises(Fault) as caught:
        conversation()._check(data)
    assert caught.value.kind == kind


def test_a_byte_that_is_lost_shifts_the_rest_and_is_found():
    talk = conversation()
    stream = pattern_of(1, 10)
    talk._check(stream[:4])
    with pytest.raises(Fault, match="corrupt"):
        talk._check(stream[5:12])
