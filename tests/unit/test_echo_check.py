"""Answers of an echo server, judged: every kind of wrong, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.clients.echo_check import Answer, EchoCheck, Verdict, payload_of

SIZES = st.integers(1, 600)
CUTS = st.lists(st.integers(1, 700), min_size=1, max_size=20)


def fed(check, stream, cuts):
    """The answers to `stream`, received in pieces of these sizes, over and over."""
    answers = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        turn += 1
        answers += check.received(stream[position : position + size])
        position += size
    return answers


@given(SIZES, st.integers(1, 20), CUTS)
def test_what_comes_back_as_sent_is_ok(size, count, cuts):
    check = EchoCheck(size)
    stream = b"".join(check.sent(number) for number in range(1, count + 1))
    answers = fed(check, stream, cuts)
    assert answers == [Answer(number, Verdict.OK) for number in range(1, count + 1)]
    assert check.open == []
    assert check.ended() == []


@given(SIZES, st.integers(1, 10), CUTS, st.data())
def test_one_wrong_byte_is_found_and_hurts_no_other_answer(size, count, cuts, data):
    check = EchoCheck(size)
    stream = bytearray(b"".join(check.sent(number) for number in range(1, count + 1)))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    answers = fed(check, bytes(stream), cuts)
    wrong = place // size
    good = [a for number, a in enumerate(answers) if number != wrong]
    # With very few bytes, one probe may look like another: it is then wrong in another way.
    if size >= 9:
        assert answers[wrong].verdict is Verdict.CORRUPT
        assert f"byte {place % size} is" in answers[wrong].detail
        assert all(answer.verdict is Verdict.OK for answer in good)
    assert answers[wrong].verdict is not Verdict.OK


@given(st.permutations(range(1, 7)), st.integers(8, 100), CUTS)
def test_the_order_is_seen(order, size, cuts):
    check = EchoCheck(size)
    for number in range(1, 7):
        check.sent(number)
    answers = fed(check, b"".join(payload_of(number, size) for number in order), cuts)
    assert [answer.number for answer in answers] == list(order)
    waiting = list(range(1, 7))
    for answer in answers:
        expected = Verdict.OK if answer.number == waiting[0] else Verdict.REORDERED
        assert answer.verdict is expected
        waiting.remove(answer.number)


@pytest.mark.parametrize("given_up", [True, False])
def test_late_and_duplicate(given_up):
    check = EchoCheck(64)
    payload = check.sent(1)
    if given_up:
        check.give_up(1)
    first, second = check.received(payload + payload)
    assert first.verdict is (Verdict.LATE if given_up else Verdict.OK)
    assert second == Answer(1, Verdict.DUPLICATE)


def test_an_end_within_an_answer_is_short():
    check = EchoCheck(64)
    payload = check.sent(7)
    assert check.received(payload[:63]) == []
    assert check.ended() == [Answer(7, Verdict.SHORT, "63 of 64 bytes")]
    assert check.open == []


def test_bytes_that_nobody_asked_for():
    check = EchoCheck(8)
    assert check.received(b"greeting") == [Answer(0, Verdict.CORRUPT, "nothing was asked")]


def test_giving_up_what_was_never_sent_does_nothing():
    check = EchoCheck(8)
    check.give_up(3)
    assert check.open == []


@given(st.integers(8, 300))
def test_no_two_probes_are_alike(size):
    assert len({payload_of(number, size) for number in range(2000)}) == 2000
