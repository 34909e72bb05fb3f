"""The state of a stream: each event in each state, and what each operation meets there."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock import StreamAborted, StreamBroken, StreamClosed
from anysock.engines.stream_state import State, StreamState

RESET = ConnectionResetError(errno.ECONNRESET, "reset")

EVENTS: dict[str, Callable[[StreamState], object]] = {
    "end_sending": StreamState.end_sending,
    "end_receiving": StreamState.end_receiving,
    "let_go": StreamState.let_go,
    "a send given up, nothing sent": lambda state: state.give_up_send(0),
    "a send given up": lambda state: state.give_up_send(3),
    "a send given up, perhaps some sent": lambda state: state.give_up_send(None),
    "lose": lambda state: state.lose(RESET),
    "the peer is gone": lambda state: state.explain(RESET),
    "abort": StreamState.abort,
    "close": StreamState.close,
}

WAYS: dict[State, list[str]] = {
    State.OPEN: [],
    State.HALF_CLOSED: ["end_sending"],
    State.CUT_SHORT: ["a send given up"],
    State.LOST: ["lose"],
    State.ABORTED: ["abort"],
    State.CLOSED: ["close"],
}

#: Where each event leads from `OPEN`; it leads no stronger state back.
LEADS_TO = {
    "end_sending": State.HALF_CLOSED,
    "end_receiving": State.OPEN,
    "let_go": State.OPEN,
    "a send given up, nothing sent": State.OPEN,
    "a send given up": State.CUT_SHORT,
    "a send given up, perhaps some sent": State.CUT_SHORT,
    "lose": State.LOST,
    "the peer is gone": State.LOST,
    "abort": State.ABORTED,
    "close": State.CLOSED,
}

#: What `send_all`, `send_eof` and `recv` raise before they touch anything.
MEETS: dict[State, tuple[type[Exception] | None, ...]] = {
    State.OPEN: (None, None, None),
    State.HALF_CLOSED: (StreamClosed, None, None),
    State.CUT_SHORT: (StreamBroken, StreamBroken, None),
    State.LOST: (ConnectionResetError, ConnectionResetError, None),
    State.ABORTED: (StreamAborted, StreamAborted, StreamAborted),
    State.CLOSED: (StreamClosed, StreamClosed, StreamClosed),
}


def after(*events: str) -> StreamState:
    state = StreamState()
    for event in events:
        EVENTS[event](state)
    return state


def met(state: StreamState) -> tuple[type[Exception] | None, ...]:
    reasons = (
        state.why_not_send("send_all"),
        state.why_not_send("send_eof"),
        state.why_not_receive(),
    )
    return tuple(None if each is None else type(each) for each in reasons)


def test_the_table_is_whole():
    assert set(WAYS) == set(MEETS) == set(State)
    assert set(LEADS_TO) == set(EVENTS)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, EVENTS)))
def test_each_event_in_each_state(state, event):
    came = after(*WAYS[state], event)
    assert came.state is max(state, LEADS_TO[event])


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
def test_what_each_operation_meets(state):
    assert met(after(*WAYS[state])) == MEETS[state]


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12))
def test_no_event_leads_back_and_the_strongest_state_answers(events):
    state = StreamState()
    for event in events:
        before, lost = state.state, state.lost
        EVENTS[event](state)
        assert state.state >= before
        assert lost is None or state.lost is lost, "the first reason stays"
        expected = MEETS[state.state]
        if state.state is State.ABORTED and isinstance(state.lost, ConnectionResetError):
            expected = (ConnectionResetError,) * 3  # it was lost before
        assert met(state) == expected


def test_an_operation_raises_what_the_question_answers():
    for events in ([], ["end_sending"], ["lose"], ["abort"], ["close"]):
        state = after(*events)
        for check, reason in (
            (state.check_send, state.why_not_send()),
            (state.check_receive, state.why_not_receive()),
        ):
            if reason is None:
                check()
            else:
                with pytest.raises(type(reason)):
                    check()


def test_what_happened_below_comes_after_our_own_loss_and_before_our_own_mistakes():
    below = TimeoutError("below")
    assert after().why_not_send(below=below) is below
    assert after("end_sending").why_not_send(below=below) is below
    assert after("a send given up").why_not_send(below=below) is below
    assert after("lose").why_not_send(below=below) is RESET
    assert isinstance(after("close").why_not_send(below=below), StreamClosed)


def test_an_abort_or_a_close_happens_once():
    state = after()
    assert [state.abort(), state.abort()] == [True, False]
    assert [state.close(), state.close()] == [True, False]
    assert after("close").abort() is False


def test_an_end_that_comes_after_a_reset_is_no_end():
    state = after("lose")
    with pytest.raises(ConnectionResetError):
        state.meet_end()
    # Unless the loss was met by sending alone, or the end had come before.
    state = after()
    state.lose(BrokenPipeError(errno.EPIPE, "broken"))
    state.meet_end()
    assert state.end_received
    state = after()
    state.meet_end()
    state.lose(RESET)
    state.meet_end()


def test_an_end_that_we_have_made_says_nothing_of_the_peer():
    state = after("end_receiving")
    state.meet_end()
    assert not state.end_received


@pytest.mark.parametrize(
    ("events", "code", "kind", "loses"),
    [
        ([], errno.ECONNRESET, ConnectionResetError, True),
        ([], errno.EPIPE, BrokenPipeError, True),
        ([], errno.ENOTCONN, ConnectionResetError, True),
        ([], errno.EBADF, OSError, False),
        ([], errno.ENOBUFS, OSError, False),
        (["end_sending"], errno.EPIPE, StreamClosed, False),
        (["end_sending"], errno.EBADF, StreamClosed, False),
        (["a send given up"], errno.EBADF, StreamBroken, False),
        (["close"], errno.EBADF, StreamClosed, False),
    ],
)
def test_an_error_of_the_socket_in_the_words_of_the_contract(events, code, kind, loses):
    state = after(*events)
    assert type(state.explain(OSError(code, "of the socket"))) is kind
    assert (state.lost is not None) is loses


def test_a_broken_pipe_gives_way_to_what_says_why():
    """Of two threads, who sends may hear of it before the one that was told of the reset."""
    state = StreamState()
    pipe, reset = (type(OSError(code, "")) for code in (errno.EPIPE, errno.ECONNRESET))
    assert type(state.explain(OSError(errno.EPIPE, "broken"))) is pipe
    told = OSError(errno.ECONNRESET, "reset")
    assert state.explain(told) is told
    assert type(told) is reset
    for code in (errno.EPIPE, errno.ETIMEDOUT):
        assert state.explain(OSError(code, "later")) is told
    assert state.lost is told
