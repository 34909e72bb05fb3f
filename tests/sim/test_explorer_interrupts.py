"""A Ctrl-C, while histories run."""

from __future__ import annotations

import signal
import threading

import pytest

from anysock.sim import interrupts
from anysock.sim.explore import Asked, Explorer
from tests.sim import explored


@pytest.fixture(autouse=True)
def _handler():
    """The one that Python has, whatever the runner of the tests has put in its place."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_comes_after_the_history():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupts.held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("the history")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_comes_at_once():
    with pytest.raises(KeyboardInterrupt):
        with interrupts.held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it was not interrupted")


def test_who_has_a_handler_keeps_it():
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append("theirs"))
    with interrupts.held_back():
        signal.raise_signal(signal.SIGINT)
    assert came == ["theirs"]


def test_on_another_thread_there_is_nothing_to_hold_back():
    def enter():
        with interrupts.held_back():
            entered.set()

    entered = threading.Event()
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered.is_set()


def test_a_handler_that_meets_it_is_not_blamed(monkeypatch):
    served = []

    async def interrupted(connection):
        signal.raise_signal(signal.SIGINT)
        while data := await connection.recv():
            await connection.send_all(data)
        served.append(connection)

    monkeypatch.setattr(explored, "stops_at_three", interrupted)
    asked = Asked(
        handler="tests.sim.explored:stops_at_three", check="echo", clients=1, swarm=False, size=9,
        real_world=("signals",),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        Explorer(asked).block(range(3))
    assert len(served) == 1
