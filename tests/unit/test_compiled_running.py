"""`process_events` and `run_ready_tasks` in C. What they do, `test_kernel.py` says, of them as of
those in Python; here is what only C can do wrong."""

from __future__ import annotations

import gc
import sys
import types

import pytest

from anysock.loop.kernel import Kernel
from anysock.loop.tasks import Task, Wait, suspend
from anysock.machine import compiled
from tests.unit.test_kernel import FakePoller

pytestmark = pytest.mark.skipif(
    compiled.steps is None, reason=f"there is no compiled path: {compiled.why_not}"
)


@pytest.fixture
def kernel():
    poller = FakePoller()
    kernel = Kernel(poller, clock=lambda: poller.now)
    yield kernel
    kernel.close()


def test_they_are_the_methods_of_a_kernel(kernel):
    for method in (kernel.process_events, kernel.run_ready_tasks):
        assert isinstance(method, types.BuiltinMethodType)


@pytest.mark.parametrize("events", [None, 7, ((1, 1),), [1], [(1,)], [(1, "x")], [(1, 1, 1)]])
def test_what_are_no_events_is_refused(kernel, events):
    with pytest.raises(TypeError):
        kernel.process_events(events)


def test_a_kernel_without_its_queue_is_refused(kernel):
    queue = kernel._ready
    for other in (7, [object()]):
        kernel._ready = other
        with pytest.raises((TypeError, AttributeError)):
            kernel.run_ready_tasks()
    kernel._ready = queue


def test_they_are_for_kernels_alone():
    assert compiled.steps is not None
    for classes in ((int, int), (Kernel, int), (Task, Task)):
        with pytest.raises((TypeError, AttributeError)):
            compiled.steps.bind_kernel(*classes)


def test_what_yields_nothing_is_told_so(kernel):
    @types.coroutine
    def nothing():
        yield

    async def main():
        with pytest.raises(TypeError):
            await nothing()

    kernel.run(main())


def test_nothing_is_left_of_tasks_that_are_woken(kernel):
    class Completion(Wait):
        def __init__(self, outcome):
            self.outcome = outcome

        def enter(self, task):
            kernel.timers.add(kernel.clock(), lambda: kernel.wake(task, self.outcome))

    async def work(times):
        for _ in range(times):
            assert await suspend(Completion(b"data")) == b"data"
            assert await suspend(Completion(None)) is None
            with pytest.raises(OSError, match="reset"):
                await suspend(Completion(OSError(104, "reset")))

    async def main():
        await work(20)
        gc.collect()
        objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
        await work(1_000)
        gc.collect()
        assert len(gc.get_objects()) - objects < 50
        assert sys.getallocatedblocks() - blocks < 500

    kernel.run(main())
