"""Blocks that hold back what comes from outside: `anysock.shielded`, and what it stands on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anysock
from anysock import Server
from anysock.engines.current import current_engine
from tests.harness import CONCURRENT_ENGINES, PATIENCE, SIMULATED

LONG = PATIENCE * 10


def test_the_end_of_a_task_is_held_back_until_the_block_has_ended(concurrent_engine):
    async def main():
        inside, go_on = anysock.Event(), anysock.Event()
        trace: list[object] = []

        async def cleans_up():
            try:
                async with anysock.shielded(PATIENCE) as scope:
                    inside.set()
                    await go_on.wait()
                    await anysock.sleep(0)
                    trace.append("cleaned up")
                trace.append(scope.fired)
                await anysock.sleep(0)
                trace.append("not reached")
            except BaseException as error:
                trace.append(type(error) in current_engine().cancellations)
                raise

        task = anysock.spawn(cleans_up())
        await inside.wait()
        task.cancel()
        assert task.cancelling
        await anysock.sleep(0)
        go_on.set()
        with pytest.raises(anysock.Cancelled):
            await task.join()
        assert trace == ["cleaned up", False, True]

    anysock.run(main, engine=concurrent_engine)


def test_its_own_deadline_ends_it_quietly_and_what_was_held_back_follows(concurrent_engine):
    async def main():
        inside, trace = anysock.Event(), []

        async def cleans_up():
            async with anysock.shielded(0.02) as scope:
                inside.set()
                await anysock.sleep(LONG)
            trace.append(scope.fired)
            await anysock.sleep(LONG)

        task = anysock.spawn(cleans_up())
        await inside.wait()
        task.cancel()
        with pytest.raises(anysock.Cancelled):
            await task.join()
        assert trace == [True]

    anysock.run(main, engine=concurrent_engine)


def test_time_that_is_over_before_does_not_cut_off_what_follows(engine):
    """The deadlines of blocks around it, under every engine: also where there is only one task."""

    async def main():
        async with anysock.move_on_after(0) as outer:
            async with anysock.shielded(PATIENCE) as scope:
                await anysock.sleep(0.001)
                async with anysock.move_on_after(0.001) as inner:
                    await anysock.sleep(LONG)
                assert inner.fired
                await anysock.sleep(0.001)
            assert not scope.fired
            await anysock.sleep(LONG)
        assert outer.fired

    anysock.run(main, engine=engine)


def test_what_was_held_back_is_over_with_its_own_block(engine):
    async def main():
        async with anysock.move_on_after(0.001) as outer:
            async with anysock.shielded(PATIENCE):
                await anysock.sleep(0.02)
        # Nothing was awaited between the ends of the two.
        for _ in range(5):
            await anysock.sleep(0.001)
        return outer.fired

    assert anysock.run(main, engine=engine) is False


def test_a_task_that_cancels_itself_first_is_not_cut_off(concurrent_engine):
    async def main():
        trace = []

        async def ends_itself():
            current_engine().current_task().cancel()
            async with anysock.shielded(PATIENCE):
                await anysock.sleep(0.001)
                trace.append("cleaned up")
            await anysock.sleep(0)
            trace.append("not reached")

        task = anysock.spawn(ends_itself())
        with pytest.raises(anysock.Cancelled):
            await task.join()
        assert trace == ["cleaned up"]

    anysock.run(main, engine=concurrent_engine)


def test_a_handler_that_a_drain_aborts_cleans_up(concurrent_engine):
    async def main():
        trace, begun = [], anysock.Event()

        async def handler(connection):
            try:
                begun.set()
                await anysock.sleep(LONG)
            finally:
                async with anysock.shielded(PATIENCE):
                    await anysock.sleep(0.02)
                    trace.append("cleaned up")

        async with Server(handler, bind="127.0.0.1:0", drain_timeout=0.01) as server:
            client = await anysock.connect(server.addresses[0])
            await begun.wait()
        assert trace == ["cleaned up"]
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_the_end_of_the_program_waits_for_it(concurrent_engine):
    trace = []

    async def main():
        inside = anysock.Event()

        async def works():
            async with anysock.shielded(PATIENCE):
                inside.set()
                await anysock.sleep(0.05)
                trace.append("done")

        task = anysock.spawn(works())
        await inside.wait()
        return task

    task = anysock.run(main, engine=concurrent_engine)
    if task.done:  # under `threads`, nobody is waited for
        assert trace == ["done"]
    assert task.done or concurrent_engine == "threads"


def test_a_wrong_time_is_refused():
    async def main(seconds):
        anysock.shielded(seconds)

    for seconds in (None, "2", float("nan")):
        with pytest.raises(anysock.UsageError, match=r"shielded\(\) takes a number of seconds"):
            anysock.run(main, seconds)


# -- any nesting ----------------------------------------------------------------------------------


class Nest:
    """Blocks within blocks, of which one is given up while the task is in the innermost; or the
    task is cancelled. `shields` says of each whether it shields."""

    def __init__(self, shields: list[bool], given_up: int) -> None:
        self.shields = shields
        self.given_up = given_up
        self.trace: list[str] = []
        inner = [at for at, shield in enumerate(shields) if shield and at > given_up]
        #: The block at whose end the cancellation is raised; None: within the innermost.
        self.raised_after = inner[0] if inner else None

    def expected(self) -> list[str]:
        """What is to happen."""
        raising = self.raised_after is None
        trace = [] if raising else ["innermost"]
        for at in reversed(range(len(self.shields))):
            if raising:
                if at != self.given_up:
                    continue
                raising = False
                trace.append(f"{at} fired")
            trace.append(f"end of {at}")
            if at == self.raised_after:
                raising = True
            else:
                trace.append(f"after {at}")
        return [*trace, "cancelled"] if raising else trace

    async def run(self) -> list[str]:
        task = anysock.spawn(self._task())
        try:
            await task.join()
        except anysock.Cancelled:
            self.trace.append("cancelled")
        return self.trace

    async def _task(self) -> None:
        self.task = current_engine().current_task()
        self.scopes: list[anysock.Scope] = []
        await self._block(0)

    async def _block(self, at: int) -> None:
        if at == len(self.shields):
            await self._innermost()
            return
        scope = current_engine().scope(LONG, shield=self.shields[at])
        self.scopes.append(scope)
        async with scope:
            await self._block(at + 1)
        if scope.fired:
            self.trace.append(f"{at} fired")
        self.trace.append(f"end of {at}")
        await anysock.sleep(0)
        self.trace.append(f"after {at}")

    async def _innermost(self) -> None:
        done = anysock.Event()

        async def give_up():
            (self.scopes[self.given_up] if self.given_up >= 0 else self.task).cancel()
            await anysock.sleep(0)
            done.set()

        other = anysock.spawn(give_up())
        if self.raised_after is None:
            await anysock.sleep(LONG)
        await done.wait()
        await anysock.sleep(0)
        await other.join()
        self.trace.append("innermost")


@pytest.mark.parametrize("engine", [*CONCURRENT_ENGINES, *SIMULATED])
@settings(max_examples=25)
@given(st.lists(st.booleans(), max_size=5), st.integers(-1, 4))
def test_in_any_nesting_it_is_exact_where_a_cancellation_is_raised(engine, shields, given_up):
    nest = Nest(shields, min(given_up, len(shields) - 1))
    assert anysock.run(nest.run, engine=engine) == nest.expected()
