"""Answers of an echo server, judged: every kind of wrong, however the bytes are cut."""

from __future__ import annotations

import zlib

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
    if size >= 16:
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


@pytest.mark.parametrize("size", [256, 1000, 2**20])
def test_payloads_can_not_be_compressed(size):
    assert len(zlib.compress(payload_of(1, size), 9)) > 0.97 * size
    assert payload_of(1, size)[8:] != payload_of(252, size)[8:]


@given(st.sets(st.integers(1, 20), max_size=19), st.integers(8, 100), CUTS)
def test_who_answers_after_a_loss_is_not_out_of_order(lost, size, cuts):
    check = EchoCheck(size)
    payloads = {number: check.sent(number) for number in range(1, 21)}
    for number in lost:
        check.give_up(number)
    answered = [number for number in payloads if number not in lost]
    answers = fed(check, b"".join(payloads[number] for number in answered), cuts)
    assert answers == [Answer(number, Verdict.OK) for number in answered]
    assert sorted(check.open) == sorted(lost)


@given(st.integers(0, 63), st.integers(1, 255), st.booleans())
def test_a_corrupt_answer_after_a_loss_is_told_of_the_right_probe(place, wrong, given_up):
    check = EchoCheck(64)
    check.sent(1)
    block = bytearray(check.sent(2))
    check.sent(3)
    if given_up:
        check.give_up(1)
    block[place] ^= wrong
    [answer] = check.received(bytes(block))
    assert (answer.number, answer.verdict) == (2, Verdict.CORRUPT)
    assert check.open == [1, 3]


@given(st.binary(min_size=64, max_size=64))
def test_bytes_that_look_like_no_probe_take_the_place_of_the_one_that_is_due(block):
    check = EchoCheck(64)
    for number in (1, 2, 3):
        check.sent(number)
    check.give_up(1)
    assert [(answer.number, answer.verdict) for answer in check.received(block)] == [
        (2, Verdict.CORRUPT)
    ]


def test_a_short_answer_after_a_loss_is_told_of_the_right_probe():
    check = EchoCheck(64)
    check.sent(1)
    check.give_up(1)
    check.sent(2)
    assert check.received(check.sent(3)[:40]) == []
    assert check.ended() == [Answer(3, Verdict.SHORT, "40 of 64 bytes")]


def test_an_endless_run_without_answers_has_an_end_to_its_memory():
    check = EchoCheck(64)
    for number in range(1, 3001):
        check.sent(number)
        check.give_up(number)
    assert check.open == list(range(2001, 3001))
    [late] = check.received(payload_of(2001, 64))
    assert late == Answer(2001, Verdict.LATE)


def test_a_probe_has_at_least_one_byte():
    with pytest.raises(ValueError, match="at least one byte"):
        EchoCheck(0)
