"""Waiting for descriptors by a poller of our own in an asyncio loop: `engines.asyncio.watching`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import random
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

import anysock
from anysock.engines.asyncio.watching import LoopDescriptor, LoopWatch
from anysock.engines.current import current_engine
from anysock.loop.tasks import suspend

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class PythonTask(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
    """The task that asyncio has where its C code is not there, or is not wanted."""


@pytest.fixture(params=[*LOOPS, "tasks in Python"])
def run(request) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on a loop of each kind, as another program would."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS.get(request.param)) as runner:
            if request.param not in LOOPS:
                runner.get_loop().set_task_factory(
                    lambda loop, coro, **more: PythonTask(coro, loop=loop, **more)
                )
            runner.run(bounded(main))

    return run


async def waits(watched: LoopDescriptor) -> None:
    await suspend(watched.readable())


async def bounded(main: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(20):
        await main


@contextlib.contextmanager
def two_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_task_goes_on_in_its_own_context_as_the_current_task(run):
    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)
        number = contextvars.ContextVar[int]("number")

        async def wait(descriptor, mine):
            number.set(mine)
            for _ in range(3):
                await suspend(descriptor.readable())
                assert number.get() == mine
                assert asyncio.current_task() is tasks[mine]
                descriptor_of[mine].recv(1)

        with two_ends() as (near, far), two_ends() as (other_near, other_far):
            descriptor_of = [near, other_near]
            watched = [watch.watch(each.fileno()) for each in descriptor_of]
            tasks = [asyncio.create_task(wait(watched[n], n)) for n in range(2)]
            for _ in range(3):
                await turns()
                far.send(b"x")
                other_far.send(b"x")
            await asyncio.gather(*tasks)
            assert number.get(None) is None
            for each in watched:
                each.close()

    run(main())


class Owner:
    """What owns a descriptor, as a connection does, and is in the context of its task."""

    def __init__(self, descriptor: LoopDescriptor) -> None:
        self.descriptor = descriptor
        self.waits = descriptor.readable(), descriptor.writable()


def test_what_is_closed_goes_without_the_garbage_collector(run):
    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)
        current = contextvars.ContextVar[Owner]("current")

        async def life(fd):
            owner = Owner(watch.watch(fd))
            current.set(owner)
            for wait in owner.waits:
                await suspend(wait)
            owner.descriptor.close()
            return weakref.ref(owner)

        with two_ends() as (near, far):
            far.send(b"x")
            gc.disable()
            try:
                owner = await asyncio.create_task(life(near.fileno()))
                await turns()
                assert owner() is None
            finally:
                gc.enable()

    run(main())


def test_a_descriptor_that_nobody_waits_for_does_not_keep_the_loop_busy(run):
    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)
        with two_ends() as (near, far):
            watched = watch.watch(near.fileno())
            waiting = asyncio.create_task(waits(watched))
            await turns()
            far.send(b"this stays")
            await waiting
            before = watch.iterations
            await turns(50)
            assert watch.iterations <= before + 1
            await suspend(watched.readable())
            assert near.recv(100) == b"this stays"
            watched.close()

    run(main())


@pytest.mark.parametrize("cancelled", ["neither", "first", "second"])
def test_a_second_task_is_refused_and_nothing_happens_to_the_first(run, cancelled):
    """Also where one of them is cancelled just then."""

    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)

        async def wait():
            while True:
                await suspend(watched.readable())
                with contextlib.suppress(BlockingIOError):  # a wait may end before its time
                    return near.recv(100)

        async def cancel_one():
            if cancelled != "neither":
                (first if cancelled == "first" else second).cancel()

        with two_ends() as (near, far):
            watched = watch.watch(near.fileno())
            first = asyncio.create_task(wait())
            await turns()
            second = asyncio.create_task(wait())
            # It runs right after the second has begun to wait, and before that is refused.
            cancelling = asyncio.create_task(cancel_one())
            await asyncio.wait((second, cancelling))
            if cancelled == "second":
                assert second.cancelled()
            else:
                assert isinstance(second.exception(), anysock.StreamBusy)
            if cancelled == "first":
                with pytest.raises(asyncio.CancelledError):
                    await first
            else:
                await turns()
                assert not first.done()
                assert watched.has_reader
                far.send(b"for the first")
                assert await first == b"for the first"
            watched.close()

    run(main())


def test_a_close_ends_the_waits_and_a_later_one_is_refused(run):
    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)
        with two_ends() as (near, _far):
            watched = watch.watch(near.fileno())
            waiting = asyncio.create_task(waits(watched))
            await turns()
            watched.close()
            watched.close()
            for _ in range(2):
                with pytest.raises(anysock.StreamClosed):
                    await waiting
                waiting = asyncio.create_task(waits(watched))
            with pytest.raises(anysock.StreamClosed):
                await waiting

    run(main())


def test_a_loop_that_another_program_runs_is_left_as_it_was(run):
    async def main():
        def descriptors() -> list[str]:
            return [os.readlink(f"/proc/self/fd/{fd}") for fd in listed()]

        def listed() -> list[str]:
            # That of the listing itself is not there any more.
            return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{fd}")]

        def of_ours() -> int:
            return sum("eventpoll" in each or "socket" in each for each in descriptors())

        before = of_ours()
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                await connection.send_all(b"hello")
                assert await connection.recv_exactly(5) == b"hello"
                assert of_ours() > before
        await turns()
        assert of_ours() == before

    run(main())


@pytest.mark.parametrize("name", LOOPS)
def test_the_engine_of_a_loop_that_runs_already_is_that_of_its_kind(name):
    async def main() -> str:
        engine = current_engine()
        assert current_engine() is engine
        return engine.name

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        assert runner.run(main()) == name


@pytest.mark.parametrize("name", LOOPS)
def test_what_was_awaited_by_random_tasks_is_all_there(name):
    """Ten pairs, whose readers are cancelled at random: not a byte is lost, or comes twice."""

    async def main():
        watch = LoopWatch(asyncio.get_running_loop(), hosted=True)
        dice = random.Random(14)

        async def read(sock, watched, into):
            while True:
                await suspend(watched.readable())
                with contextlib.suppress(BlockingIOError):
                    into += sock.recv(dice.randrange(1, 20))

        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(two_ends()) for _ in range(10)]
            watched = [watch.watch(near.fileno()) for near, _ in pairs]
            got = [bytearray() for _ in pairs]
            sent = [bytearray() for _ in pairs]
            tasks: dict[int, asyncio.Task[None]] = {}
            for step in range(2000):
                at = dice.randrange(10)
                if at not in tasks:
                    tasks[at] = asyncio.create_task(read(pairs[at][0], watched[at], got[at]))
                elif dice.random() < 0.3:
                    tasks[at].cancel()
                    await asyncio.wait((tasks.pop(at),))
                else:
                    data = b"%d," % step
                    sent[at] += data
                    pairs[at][1].send(data)
                await turns(dice.randrange(3))
            for at in range(10):
                if at not in tasks:
                    tasks[at] = asyncio.create_task(read(pairs[at][0], watched[at], got[at]))
            while got != sent:
                await asyncio.sleep(0)
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values())
            for each in watched:
                each.close()

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(bounded(main()))


def test_large_receives_are_not_mapped_each_time():
    """What malloc(3) maps for a receive of 256 KiB, and unmaps after it, is a page fault each."""
    program = """
import resource, socket
import anysock.engines.posix.streams
near, far = socket.socketpair()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def receive(times):
    for _ in range(times):
        far.send(b"x")
        near.recv(262_144)
receive(10)
before = faults()
receive(1000)
print(faults() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert int(done.stdout) < 200
