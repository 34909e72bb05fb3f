"""The kernel of the event loop, with a poller and a clock of the test's own."""

from __future__ import annotations

import functools
import gc
import logging
import socket
import threading
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from anysock.errors import Cancelled, StreamBusy, StreamClosed, UsageError
from anysock.loop.kernel import Kernel
from anysock.loop.pollers import FAILED, READABLE, WRITABLE, SelectorsPoller, default_poller
from anysock.loop.scopes import Scope
from anysock.loop.tasks import Task, Wait, suspend
from anysock.loop.timers import Timers
from anysock.loop.waits import Descriptor, Event, ReadWait, Sleep, WriteWait


class FakePoller:
    """Reports what the test says is ready, as long as it is asked for; sleeps by the fake clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wishes: dict[int, int] = {}
        self.ready: dict[int, int] = {}
        self.asked: list[tuple[str, int, int]] = []
        self.slept: list[float] = []

    def register(self, fd, eventmask):
        assert fd not in self.wishes
        self.wishes[fd] = eventmask
        self.asked.append(("register", fd, eventmask))

    def modify(self, fd, eventmask):
        assert fd in self.wishes
        self.wishes[fd] = eventmask
        self.asked.append(("modify", fd, eventmask))

    def unregister(self, fd):
        del self.wishes[fd]
        self.asked.append(("unregister", fd, 0))

    def poll(self, timeout=None, maxevents=-1):
        events = [
            (fd, mask & (self.wishes[fd] | FAILED))
            for fd, mask in self.ready.items()
            if fd in self.wishes and mask & (self.wishes[fd] | FAILED)
        ]
        self.slept.append(0.0 if events else timeout)
        if not events:
            assert timeout < 86_400, "nothing will ever happen again"
            self.now += timeout
        return events

    def close(self):
        pass


@pytest.fixture
def poller():
    return FakePoller()


@pytest.fixture
def kernel(poller):
    kernel = Kernel(poller, clock=lambda: poller.now)
    yield kernel
    kernel.close()


def sleep(kernel: Kernel, seconds: float) -> Coroutine[Any, Any, None]:
    async def nap() -> None:
        await suspend(Sleep(kernel, seconds))

    return nap()


def test_a_coroutine_runs_and_returns(kernel):
    async def main():
        return 42

    assert kernel.run(main()) == 42


def test_what_main_raises_is_raised(kernel):
    async def main():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        kernel.run(main())


def test_sleep_takes_its_time_and_no_other(kernel, poller):
    async def main():
        await sleep(kernel, 5)
        return poller.now

    assert kernel.run(main()) == 5


def test_sleepers_wake_in_the_order_of_their_deadlines(kernel, poller):
    order = []

    async def nap(seconds):
        await sleep(kernel, seconds)
        order.append((seconds, poller.now))

    async def main():
        for task in [kernel.spawn(nap(seconds)) for seconds in (3, 1, 2, 1)]:
            await task.join()

    kernel.run(main())
    assert order == [(1, 1), (1, 1), (2, 2), (3, 3)]


def test_a_very_long_sleep_is_no_trouble(kernel, poller):
    async def main():
        async with Scope(kernel, 100_000) as scope:
            await sleep(kernel, 10**9)
        assert scope.fired
        return poller.now

    poller_poll = poller.poll
    poller.poll = lambda timeout, most: poller_poll(min(timeout, 86_399), most)
    assert kernel.run(main()) == pytest.approx(100_000)


def test_sleep_0_lets_the_others_run_in_turn(kernel):
    order = []

    async def turns(name):
        for _ in range(3):
            order.append(name)
            await sleep(kernel, 0)

    async def main():
        for task in [kernel.spawn(turns(name)) for name in "abc"]:
            await task.join()

    kernel.run(main())
    assert order == list("abcabcabc")


def test_each_ready_task_runs_once_a_turn(kernel, poller):
    """Else two tasks that keep waking each other would keep the poller from being asked."""

    async def forever():
        while True:
            await sleep(kernel, 0)

    async def main():
        kernel.spawn(forever())
        kernel.spawn(forever())
        await sleep(kernel, 0)
        before = len(poller.slept)
        for _ in range(10):
            await sleep(kernel, 0)
        return len(poller.slept) - before

    assert kernel.run(main()) == 10


def test_join_gives_the_result_or_raises_the_exception(kernel):
    async def good():
        return "good"

    async def bad():
        await sleep(kernel, 1)
        raise KeyError("bad")

    async def main():
        assert await kernel.spawn(good()).join() == "good"
        task = kernel.spawn(bad())
        with pytest.raises(KeyError, match="bad"):
            await task.join()
        with pytest.raises(KeyError, match="bad"):  # as often as it is asked
            await task.join()

    kernel.run(main())


def test_a_failure_that_nobody_joins_is_reported_once_and_holds_nothing(kernel):
    class Big:
        alive = 0

        def __init__(self):
            Big.alive += 1

        def __del__(self):
            Big.alive -= 1

    async def bad():
        _held_by_the_frame = Big()
        raise ValueError("unseen")

    class Records(logging.Handler):
        """Notes what is told, without keeping the exception."""

        def emit(self, record):
            told.append((record.getMessage(), str(record.exc_info[1])))

    async def main():
        task = kernel.spawn(bad(), name="unlucky")
        await sleep(kernel, 1)
        assert told == [("task 'unlucky' failed", "unseen")]
        assert Big.alive == 0
        return task

    told: list[tuple[str, str]] = []
    log, handler = logging.getLogger("anysock.loop"), Records()
    log.addHandler(handler)
    log.propagate = False
    try:
        kernel.run(main())
    finally:
        log.removeHandler(handler)
        log.propagate = True


def test_cancel_is_delivered_once_at_the_await_and_the_task_may_clean_up(kernel, poller):
    seen = []

    async def worker():
        try:
            await sleep(kernel, 100)
        except Cancelled:
            seen.append("cancelled")
            await sleep(kernel, 1)  # a clean-up that awaits is not cancelled again
            seen.append("cleaned up")
            raise

    async def main():
        task = kernel.spawn(worker())
        await sleep(kernel, 1)
        task.cancel()
        with pytest.raises(Cancelled):
            await task.join()
        assert poller.now == 2
        assert task.done

    kernel.run(main())
    assert seen == ["cancelled", "cleaned up"]


def test_a_ready_task_gets_what_woke_it_before_it_is_cancelled(kernel):
    """Else what it was handed would be lost."""
    event = Event(kernel)
    seen = []

    async def waiter():
        await event.wait()
        seen.append("got it")
        await sleep(kernel, 1)
        seen.append("never")

    async def main():
        task = kernel.spawn(waiter())
        await sleep(kernel, 0)
        event.set()
        task.cancel()
        with pytest.raises(Cancelled):
            await task.join()

    kernel.run(main())
    assert seen == ["got it"]


def test_a_task_that_cancels_itself_is_cancelled_at_its_next_await(kernel):
    async def main():
        me = kernel.current
        me.cancel()
        with pytest.raises(Cancelled):
            await sleep(kernel, 1)
        await sleep(kernel, 1)  # once

    kernel.run(main())


def test_what_is_left_when_main_returns_is_cancelled_and_cleans_up(kernel):
    cleaned = []

    async def worker(name):
        try:
            await sleep(kernel, 100)
        finally:
            await sleep(kernel, 0)
            cleaned.append(name)

    async def main():
        kernel.spawn(worker("a"))
        kernel.spawn(worker("b"))
        await sleep(kernel, 0)

    kernel.run(main())
    assert cleaned == ["a", "b"]


def test_a_task_that_will_not_end_does_not_keep_the_loop_for_ever(kernel, caplog):
    async def stubborn():
        while True:
            try:
                await sleep(kernel, 100)
            except Cancelled:
                pass

    async def main():
        kernel.spawn(stubborn(), name="stubborn")
        await sleep(kernel, 0)

    kernel.run(main())
    assert "'stubborn' did not end when it was cancelled" in caplog.text


def test_scopes_nest_and_know_which_of_them_fired(kernel, poller):
    async def main():
        async with Scope(kernel, 1) as outer:
            async with Scope(kernel, 2) as inner:
                await sleep(kernel, 10)
        assert (outer.fired, inner.fired, poller.now) == (True, False, 1)
        async with Scope(kernel, 20) as outer:
            async with Scope(kernel, 2) as inner:
                await sleep(kernel, 10)
            assert (inner.fired, poller.now) == (True, 3)
            await sleep(kernel, 1)
        assert not outer.fired
        async with Scope(kernel, None):
            await sleep(kernel, 100)

    kernel.run(main())


def test_two_scopes_that_fire_in_the_same_instant_are_both_told(kernel, poller):
    async def main():
        async with Scope(kernel, 1) as outer:
            async with Scope(kernel, 1) as inner:
                await sleep(kernel, 10)
            assert inner.fired
            await sleep(kernel, 10)
        assert (outer.fired, poller.now) == (True, 1)

    kernel.run(main())


def test_a_scope_may_be_cancelled_from_elsewhere_before_and_after(kernel, poller):
    async def main():
        scope = Scope(kernel, None)
        canceller = kernel.spawn(cancel_soon(scope))
        async with scope:
            await sleep(kernel, 10)
        assert (scope.fired, poller.now) == (True, 0)
        scope.cancel()
        await sleep(kernel, 1)
        early = Scope(kernel, None)
        early.cancel()
        async with early:
            await sleep(kernel, 10)
        assert (early.fired, poller.now) == (True, 1)
        await canceller.join()

    async def cancel_soon(scope):
        scope.cancel()
        scope.cancel()

    kernel.run(main())


def test_a_timeout_that_did_not_fire_leaves_no_trace(kernel):
    async def main():
        async with Scope(kernel, 1):
            pass
        await sleep(kernel, 10)

    kernel.run(main())
    assert len(kernel.timers) <= 1


def test_an_own_timeout_error_is_not_mistaken_for_the_scopes(kernel):
    async def main():
        with pytest.raises(TimeoutError, match="mine"):
            async with Scope(kernel, 10):
                raise TimeoutError("mine")

    kernel.run(main())


def test_a_message_costs_no_word_to_the_poller(kernel, poller):
    """The descriptor stays registered between waits: one registration, however many messages."""
    poller.ready[7] = READABLE

    async def main():
        descriptor = Descriptor(kernel, 7)
        wait = ReadWait(descriptor)
        for _ in range(100):
            await suspend(wait)
        descriptor.close()

    kernel.run(main())
    assert [entry for entry in poller.asked if entry[1] == 7] == [
        ("register", 7, READABLE),
        ("unregister", 7, 0),
    ]


def test_what_nobody_waits_for_is_taken_back(kernel, poller):
    """Else a level-triggered poller would report it for ever, and the loop would spin."""

    async def main():
        descriptor = Descriptor(kernel, 7)
        poller.ready[7] = READABLE
        await suspend(ReadWait(descriptor))
        before = len(poller.slept)
        await sleep(kernel, 10)
        assert len(poller.slept) - before <= 3
        assert 7 not in poller.wishes
        poller.ready[7] = WRITABLE
        await suspend(WriteWait(descriptor))  # and may be asked for again
        descriptor.close()

    kernel.run(main())


def test_a_wish_that_a_resumed_task_renews_is_kept(kernel, poller):
    """Readable is reported while only a writer waits, and the writer turns to reading at once."""
    poller.ready[7] = READABLE | WRITABLE

    async def main():
        descriptor = Descriptor(kernel, 7)
        await suspend(ReadWait(descriptor))
        for _ in range(10):
            await suspend(WriteWait(descriptor))
            await suspend(ReadWait(descriptor))
        descriptor.close()

    kernel.run(main())


def test_an_error_wakes_reader_and_writer(kernel, poller):
    woken = []

    async def wait_for(wait):
        await suspend(wait)
        woken.append(type(wait).__name__)

    async def main():
        descriptor = Descriptor(kernel, 7)
        tasks = [
            kernel.spawn(wait_for(wait)) for wait in (ReadWait(descriptor), WriteWait(descriptor))
        ]
        await sleep(kernel, 1)
        poller.ready[7] = FAILED
        for task in tasks:
            await task.join()
        await sleep(kernel, 10)  # the error stays: nobody waits, so the wish must be gone
        descriptor.close()

    kernel.run(main())
    assert woken == ["ReadWait", "WriteWait"]
    assert len(poller.slept) < 20


def test_a_second_reader_is_refused(kernel):
    async def main():
        descriptor = Descriptor(kernel, 7)
        first = kernel.spawn(_forever(ReadWait(descriptor)))
        await sleep(kernel, 0)
        with pytest.raises(StreamBusy, match="already waiting to receive"):
            await suspend(ReadWait(descriptor))
        first.cancel()
        descriptor.close()

    kernel.run(main())


async def _forever(wait):
    await suspend(wait)


def test_closing_wakes_who_waits_with_a_clear_error(kernel):
    async def main():
        descriptor = Descriptor(kernel, 7)
        task = kernel.spawn(_forever(ReadWait(descriptor)))
        await sleep(kernel, 0)
        descriptor.close()
        descriptor.close()
        with pytest.raises(StreamClosed, match="closed while a task waited on it"):
            await task.join()
        with pytest.raises(StreamClosed, match="after it was closed"):
            await suspend(ReadWait(descriptor))

    kernel.run(main())


def test_a_number_that_is_used_again_wakes_its_new_owner_only(kernel, poller):
    async def main():
        old = Descriptor(kernel, 7)
        task = kernel.spawn(_forever(ReadWait(old)))
        await sleep(kernel, 0)
        old.close()
        new = Descriptor(kernel, 7)
        poller.ready[7] = READABLE
        await suspend(ReadWait(new))
        with pytest.raises(StreamClosed):
            await task.join()
        old.close()  # a late second close must not touch the new owner
        await suspend(ReadWait(new))
        new.close()

    kernel.run(main())


def test_awaiting_what_belongs_to_another_loop_is_told_clearly(kernel):
    class Foreign:
        def __await__(self):
            yield self

    async def main():
        with pytest.raises(TypeError, match="written for another event loop"):
            await Foreign()
        await sleep(kernel, 1)  # the task lives on

    kernel.run(main())


def test_waking_16000_waiters_is_linear(kernel):
    """curio looks through its ready queue for each: 3 s for as many."""
    event = Event(kernel)
    resumed = []

    async def waiter(number):
        await event.wait()
        resumed.append(number)

    async def main():
        tasks = [kernel.spawn(waiter(number)) for number in range(16_000)]
        await sleep(kernel, 0)
        event.set()
        for task in tasks:
            await task.join()

    kernel.run(main())
    assert resumed == list(range(16_000))


def test_a_million_timers_set_and_cancelled_stay_few():
    timers = Timers()
    for number in range(1_000_000):
        timers.cancel(timers.add(float(number), lambda: None))
        assert len(timers) <= 200
    assert timers.next_deadline() is None


def test_timers_survive_the_cancelling_of_others():
    timers = Timers()
    fired: list[int] = []
    kept = list(range(0, 1000, 7))
    for when in kept:
        timers.add(when, functools.partial(fired.append, when))
    others = [timers.add(number % 1000, lambda: fired.append(-1)) for number in range(5000)]
    for timer in others:
        timers.cancel(timer)
        timers.cancel(timer)  # again, for nothing
    timers.run_due(1000)
    assert fired == kept
    assert len(timers) == 0


def test_a_timer_that_is_cancelled_by_another_of_the_same_instant_does_not_fire():
    timers = Timers()
    fired = []
    timers.add(1, lambda: timers.cancel(second))
    second = timers.add(1, lambda: fired.append("second"))
    timers.run_due(1)
    assert not fired
    assert timers.next_deadline() is None


def test_a_timeout_and_the_sleep_within_it_that_end_together_resume_the_task_once(kernel, poller):
    """Found by the model in test_kernel_model.py: both woke the task, and the next sleep ended."""

    async def main():
        async with Scope(kernel, 1) as scope:
            await sleep(kernel, 1)
        assert (scope.fired, poller.now) == (True, 1)
        await sleep(kernel, 1)
        return poller.now

    assert kernel.run(main()) == 2


def test_many_calls_from_other_threads_while_the_loop_is_busy():
    """The wake-up pipe is full long before; no caller may get an error, no call be lost."""
    kernel = Kernel()  # the real poller: this is about the real pipe
    called: list[int] = []

    async def main():
        event = Event(kernel)

        def others():
            for number in range(20_000):
                kernel.call_from_outside(functools.partial(called.append, number))
            kernel.call_from_outside(event.set)

        thread = threading.Thread(target=others)
        thread.start()
        thread.join()  # the loop is busy: it waits for the thread
        await event.wait()

    kernel.run(main())
    assert called == list(range(20_000))


def test_the_portable_poller_has_the_same_face():
    poller = SelectorsPoller()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        poller.register(ours.fileno(), READABLE)
        assert poller.poll(0) == []
        theirs.send(b"x")
        assert poller.poll(1) == [(ours.fileno(), READABLE)]
        poller.modify(ours.fileno(), READABLE | WRITABLE)
        assert poller.poll(1) == [(ours.fileno(), READABLE | WRITABLE)]
        poller.unregister(ours.fileno())
        assert poller.poll(0) == []
    poller.close()


def test_a_finished_loop_leaves_nothing(poller):
    async def main():
        return None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Kernel().run(main())
        gc.collect()


def test_a_task_says_what_it_does(kernel):
    async def main():
        task = kernel.spawn(_forever(Event(kernel)), name="waiting")
        assert repr(task) == "<Task 'waiting' ready>"
        await sleep(kernel, 0)
        assert repr(task).startswith("<Task 'waiting' paused on <anysock.loop.waits.Event")
        task.cancel()
        with pytest.raises(Cancelled):
            await task.join()
        assert repr(task) == "<Task 'waiting' done>"
        assert isinstance(task, Task)

    kernel.run(main())


def test_the_variable_that_chooses_a_poller_is_looked_at(monkeypatch):
    monkeypatch.setenv("ANYSOCK_POLLER", "selectors")
    assert isinstance(default_poller(), SelectorsPoller)
    monkeypatch.setenv("ANYSOCK_POLLER", "kqueue")
    with pytest.raises(UsageError, match="'kqueue': it may be selectors"):
        default_poller()


def test_a_task_is_woken_with_a_value_or_an_error(kernel):
    """What a wait that completes, instead of becoming ready, hands to its task."""

    class Completion(Wait):
        def enter(self, task):
            kernel.timers.add(1.0, lambda: kernel.wake(task, outcomes.pop(0)))

    outcomes = [b"data", OSError(104, "reset"), None]

    async def main():
        assert await suspend(Completion()) == b"data"
        with pytest.raises(OSError, match="reset"):
            await suspend(Completion())
        assert await suspend(Completion()) is None
        await suspend(Sleep(kernel, 0))  # and nothing of it is left for the next

    kernel.run(main())
