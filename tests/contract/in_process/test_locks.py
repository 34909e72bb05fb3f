"""`Lock`, `Semaphore` and `Condition`: first come, first served, and no turn is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anysock
from anysock.engines import engine_entry
from anysock.engines.current import current_engine
from tests.harness import CONCURRENT_ENGINES, PATIENCE, SIMULATED


def in_order(engine: str) -> bool:
    """Whether tasks run in the order in which they are ready."""
    return bool(engine_entry(engine).one_thread) and engine_entry(engine).loop != "trio"


async def until(condition) -> None:
    async with anysock.timeout(PATIENCE):
        while not condition():
            await anysock.sleep(0.001)


def test_one_at_a_time_first_come_first_served(concurrent_engine):
    async def main():
        lock, order = anysock.Lock(), []

        async def waits(number):
            async with lock:
                order.append(number)
                await anysock.sleep(0)
                order.append(number)

        async with anysock.task_group() as group:
            async with lock:
                for number in range(5):
                    group.spawn(waits(number))
                    # One after the other, so that they come in this order.
                    await until(lambda number=number: len(lock._turns._waiting) == number + 1)
                assert order == []
        assert not lock.locked
        return order

    order = anysock.run(main, engine=concurrent_engine)
    assert order == [number for number in range(5) for _ in range(2)]


def test_a_lock_that_is_free_is_got_under_every_engine(engine):
    """And it may be made before there is an engine."""
    lock, few, changed = anysock.Lock(), anysock.Semaphore(2), anysock.Condition()

    async def main():
        async with lock, few, changed:
            assert lock.locked
            assert changed.locked
            assert few.free == 1
            changed.notify_all()
            assert await changed.wait_for(lambda: 7) == 7
        assert not lock.locked
        assert few.free == 2
        assert [str(lock), str(few)] == ["<Lock free>", "<Semaphore 2 of 2 free>"]

    anysock.run(main, engine=engine)


def test_what_is_not_held_is_not_released(concurrent_engine):
    async def main():
        lock, few, changed = anysock.Lock(), anysock.Semaphore(1), anysock.Condition()
        with pytest.raises(RuntimeError, match="can't release: nobody holds the lock"):
            lock.release()
        with pytest.raises(RuntimeError, match="released more often than it was acquired"):
            few.release()
        with pytest.raises(RuntimeError, match="can't wait: nobody holds"):
            await changed.wait()
        with pytest.raises(RuntimeError, match="can't notify: nobody holds"):
            changed.notify()

        async def of_another():
            with pytest.raises(RuntimeError, match="the lock is held by 'main', not"):
                lock.release()

        async def holder():
            async with lock:
                await anysock.spawn(of_another()).join()
                with pytest.raises(RuntimeError, match="'main' holds this lock already"):
                    await lock.acquire()
            assert not lock.locked

        await anysock.spawn(holder(), "main").join()
        # A semaphore is nobody's own.
        await few.acquire()

        async def releases():
            few.release()

        await anysock.spawn(releases()).join()
        assert few.free == 1

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("places", [0, -1, 1.5, "2", None])
def test_a_semaphore_has_places(places):
    with pytest.raises((ValueError, TypeError), match="a semaphore has"):
        anysock.Semaphore(places)


def test_a_condition_takes_a_lock():
    wrong: Any = object()
    with pytest.raises(anysock.WrongType, match="a condition takes a Lock"):
        anysock.Condition(wrong)


def test_who_waits_for_a_change_does_not_hold_the_lock(concurrent_engine):
    async def main():
        changed = anysock.Condition()
        values: list[int] = []

        async def wants(number):
            async with changed:
                await changed.wait_for(lambda: number in values)
                values.remove(number)

        async with anysock.task_group() as group:
            for number in range(3):
                group.spawn(wants(number))
            await until(lambda: len(changed._waiting) == 3)
            for number in (2, 0, 1):
                async with changed:
                    values.append(number)
                    changed.notify_all()
        assert values == []
        assert not changed.locked

    anysock.run(main, engine=concurrent_engine)


def test_a_notification_is_for_one_and_not_lost_with_it(concurrent_engine):
    """The one that is notified is cancelled before it has the lock again."""

    async def main():
        changed, woken = anysock.Condition(), []

        async def waits(number):
            async with changed:
                await changed.wait()
                assert changed.locked
                woken.append(number)
                await anysock.sleep(0)

        tasks = []
        for number in range(3):
            tasks.append(anysock.spawn(waits(number)))
            await until(lambda number=number: len(changed._waiting) == number + 1)
        async with changed:
            changed.notify()
            tasks[0].cancel()
        with pytest.raises(anysock.Cancelled):
            await tasks[0].join()
        # Either it was woken, and got its cancellation at its next await, or it has passed it on.
        await until(lambda: len(woken) == 1)
        assert len(changed._waiting) == 2 - (woken != [0])
        async with changed:
            changed.notify_all()
        for task in tasks[1:]:
            await task.join()
        assert not changed.locked

    anysock.run(main, engine=concurrent_engine)


def test_who_is_cancelled_while_waiting_holds_the_lock_when_it_hears_of_it(concurrent_engine):
    async def main():
        changed, trace = anysock.Condition(), []

        async def waits():
            async with changed:
                try:
                    await changed.wait()
                finally:
                    trace.append(changed.locked)

        task = anysock.spawn(waits())
        await until(lambda: len(changed._waiting) == 1)
        async with changed:
            task.cancel()
            await anysock.sleep(0.01)
            assert trace == [], "it waits for the lock first"
        with pytest.raises(anysock.Cancelled):
            await task.join()
        assert trace == [True]
        assert not changed.locked
        assert not changed._waiting

    anysock.run(main, engine=concurrent_engine)


# -- any schedule ---------------------------------------------------------------------------------

VISITS = st.lists(
    st.tuples(
        st.integers(0, 3),  # steps before it comes,
        st.integers(0, 3),  # and within
        st.none() | st.integers(0, 6),  # after how many steps it is cancelled
    ),
    max_size=8,
)


class Room:
    """Tasks enter, stay for some steps, and leave; some are cancelled on the way."""

    def __init__(self, thing: Any, places: int) -> None:
        self.thing = thing
        self.places = places
        self.inside: list[int] = []
        self.came: list[int] = []
        self.entered: list[int] = []

    async def visit(self, number: int, before: int, within: int) -> None:
        for _ in range(before):
            await anysock.sleep(0)
        self.came.append(number)
        async with self.thing:
            self.inside.append(number)
            self.entered.append(number)
            try:
                assert len(self.inside) <= self.places
                for _ in range(within):
                    await anysock.sleep(0)
            finally:
                self.inside.remove(number)

    async def cancel(self, task: anysock.Task[None], after: int) -> None:
        for _ in range(after):
            await anysock.sleep(0)
        task.cancel()

    async def run(self, visits: list[tuple[int, int, int | None]]) -> None:
        tasks = []
        for number, (before, within, cancelled) in enumerate(visits):
            tasks.append(anysock.spawn(self.visit(number, before, within)))
            if cancelled is not None:
                anysock.spawn(self.cancel(tasks[-1], cancelled))
        async with anysock.timeout(PATIENCE):
            for task, (_, _, cancelled) in zip(tasks, visits, strict=True):
                try:
                    await task.join()
                except anysock.Cancelled:
                    assert cancelled is not None
        # Nobody is left, no place is lost, and none is there twice.
        assert self.inside == []
        async with anysock.timeout(PATIENCE):
            for _ in range(self.places):
                await self.thing.acquire()
                if isinstance(self.thing, anysock.Lock):
                    assert self.thing.locked
        assert getattr(self.thing, "free", 0) == 0


@pytest.mark.parametrize("engine", [*CONCURRENT_ENGINES, *SIMULATED])
@settings(max_examples=30)
@given(VISITS, st.integers(0, 3))
def test_in_any_schedule_with_any_cancellation_no_place_is_lost(engine, visits, places):
    async def main():
        room = Room(anysock.Semaphore(places) if places else anysock.Lock(), places or 1)
        await room.run(visits)
        # (Of several that have their turn at once, any may be the first to run.)
        if places < 2 and in_order(engine):
            assert room.entered == [each for each in room.came if each in room.entered]

    anysock.run(main, engine=engine)


@pytest.mark.parametrize("engine", [*CONCURRENT_ENGINES, *SIMULATED])
@settings(max_examples=30)
@given(
    st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=6),
    st.lists(st.integers(1, 3), max_size=6),
)
def test_in_any_schedule_each_notification_wakes_one(engine, waiting, notified):
    """As many go on as were notified, or as there were that were not cancelled."""

    async def main():
        changed, woken = anysock.Condition(), []

        async def waits(number):
            async with changed:
                await changed.wait()
                woken.append(number)

        async def cancel(task, after):
            for _ in range(after):
                await anysock.sleep(0)
            task.cancel()

        tasks = []
        for number, _ in enumerate(waiting):
            tasks.append(anysock.spawn(waits(number)))
            await until(lambda number=number: len(changed._waiting) == number + 1)
        cancelling = [
            anysock.spawn(cancel(task, after))
            for task, after in zip(tasks, waiting, strict=True)
            if after is not None
        ]
        told = 0
        for number in notified:
            async with changed:
                told += min(number, len(changed._waiting))
                changed.notify(number)
            await anysock.sleep(0)
        for each in cancelling:
            await each.join()
        # Those that were passed on have arrived when nobody holds the lock, or comes for it.
        await until(lambda: all(t.done or not t.cancelling for t in tasks))
        staying = sum(1 for each in waiting if each is None)
        await until(lambda: len(woken) >= min(told, staying))
        assert len(woken) <= told
        async with changed:
            changed.notify_all()
        for task, after in zip(tasks, waiting, strict=True):
            try:
                await task.join()
            except anysock.Cancelled:
                assert after is not None
        assert not changed.locked
        assert not changed._waiting
        assert current_engine().name == engine

    anysock.run(main, engine=engine)
