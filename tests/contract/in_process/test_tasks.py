"""Tasks between each other: groups, scopes, events, queues. The same under every engine."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from tests.contract.in_process.test_streams import close_all, receive_all
from tests.harness import LOOPBACK, PATIENCE, receive_exactly


def run(engine: str, main):
    return anysock.run(main, engine=engine)


async def nap(seconds: float = 0.001):
    await anysock.sleep(seconds)


# These engines don't know how much of a send has gone that was cancelled.
TELLS_NOTHING = ("asyncio-sock",)


# -- the clock -----------------------------------------------------------------------------------


def test_now_goes_on_as_time_passes(engine):
    async def main():
        readings = [anysock.now()]
        for seconds in (0, 0.02, 0):
            await nap(seconds)
            readings.append(anysock.now())
        assert readings == sorted(readings)
        return readings[-1] - readings[0]

    # Some loops count in milliseconds, and wake up to one too early.
    assert 0.018 <= run(engine, main) < PATIENCE


def test_where_no_engine_runs_there_is_no_now():
    with pytest.raises(anysock.UsageError, match="no engine runs here"):
        anysock.now()


# -- task groups --------------------------------------------------------------------------------


def test_children_never_outlive_the_block(engine):
    async def main():
        ended = []

        async def child(number):
            for _ in range(number):
                await nap()
            ended.append(number)
            return number

        async with anysock.task_group() as group:
            tasks = [group.spawn(child(number), name=f"child {number}") for number in range(5)]
        assert sorted(ended) == list(range(5))
        assert tasks[2].name == "child 2"
        assert all(task.done for task in tasks)
        return [await task.join() for task in tasks]

    assert run(engine, main) == list(range(5))


def test_a_child_may_spawn_into_its_group(concurrent_engine):
    async def main():
        ended = []

        async def child(group, depth):
            await nap()
            if depth:
                group.spawn(child(group, depth - 1))
            ended.append(depth)

        async with anysock.task_group() as group:
            group.spawn(child(group, 3))
        return ended

    assert sorted(run(concurrent_engine, main)) == [0, 1, 2, 3]


def test_the_first_failure_cancels_the_rest_and_all_failures_are_raised(concurrent_engine, caplog):
    async def main():
        cleaned = []

        async def sleeper(number):
            try:
                await anysock.sleep(60)
            finally:
                await nap()  # once cancelled, a task may clean up with awaits
                cleaned.append(number)
                if number == 1:
                    raise KeyError("while cleaning up")

        async def failing():
            await nap(0.01)
            raise ValueError("first")

        with pytest.raises(ExceptionGroup) as caught:
            async with anysock.task_group() as group:
                for number in range(3):
                    group.spawn(sleeper(number))
                group.spawn(failing())
                await anysock.sleep(60)  # the block is given up, too
        assert sorted(cleaned) == [0, 1, 2]
        return [repr(error) for error in caught.value.exceptions]

    assert run(concurrent_engine, main) == ["ValueError('first')", "KeyError('while cleaning up')"]
    assert not caplog.records, "they were raised, and need no report"


def test_a_failure_of_the_block_cancels_its_tasks(concurrent_engine):
    async def main():
        ended = []

        async def sleeper():
            try:
                await anysock.sleep(60)
            finally:
                ended.append("cancelled")

        with pytest.raises(ExceptionGroup) as caught:
            async with anysock.task_group() as group:
                group.spawn(sleeper())
                await nap()
                raise ValueError("of the block")
        assert ended == ["cancelled"]
        return [repr(error) for error in caught.value.exceptions]

    assert run(concurrent_engine, main) == ["ValueError('of the block')"]


def test_a_group_may_be_cancelled_and_ends_quietly(concurrent_engine):
    async def main():
        async with anysock.task_group() as group:
            task = group.spawn(anysock.sleep(60))
            late = []
            await nap()
            group.cancel()
            late.append(group.spawn(anysock.sleep(60)))
            await anysock.sleep(60)
            raise AssertionError("not reached")
        assert task.done
        assert late[0].done
        with pytest.raises(RuntimeError, match="has ended"):
            group.spawn(anysock.sleep(0))

    run(concurrent_engine, main)


def test_a_cancelled_child_is_no_failure(concurrent_engine):
    async def main():
        async with anysock.task_group() as group:
            task = group.spawn(anysock.sleep(60))
            await nap()
            task.cancel()
            await nap()
        return task.done

    assert run(concurrent_engine, main)


def test_a_timeout_around_a_group_ends_its_tasks(concurrent_engine):
    async def main():
        ended = []

        async def sleeper():
            try:
                await anysock.sleep(60)
            finally:
                await nap()
                ended.append(1)

        async with anysock.move_on_after(0.02) as scope:
            async with anysock.task_group() as group:
                group.spawn(sleeper())
                group.spawn(sleeper())
        assert scope.fired
        assert len(ended) == 2
        async with anysock.move_on_after(0.02) as scope:
            async with anysock.task_group() as group:
                group.spawn(sleeper())
                await anysock.sleep(60)
        assert scope.fired
        assert len(ended) == 3

    run(concurrent_engine, main)


def test_a_task_that_is_cancelled_takes_its_group_along(concurrent_engine):
    async def main():
        ended = []

        async def sleeper():
            try:
                await anysock.sleep(60)
            finally:
                ended.append("child")

        async def parent():
            try:
                async with anysock.task_group() as group:
                    group.spawn(sleeper())
            finally:
                ended.append("parent")

        task = anysock.spawn(parent())
        await nap(0.02)
        task.cancel()
        with pytest.raises(anysock.Cancelled):
            await task.join()
        return ended

    assert run(concurrent_engine, main) == ["child", "parent"]


def test_groups_nest(concurrent_engine):
    async def main():
        async def failing():
            await nap()
            raise ValueError

        with pytest.raises(ExceptionGroup) as caught:
            async with anysock.task_group() as outer:
                outer.spawn(anysock.sleep(60))
                async with anysock.task_group() as inner:
                    inner.spawn(failing())
                    await anysock.sleep(60)
        [inner_failure] = caught.value.exceptions
        assert isinstance(inner_failure, ExceptionGroup)

    run(concurrent_engine, main)


# -- scopes and cancelling ----------------------------------------------------------------------


def test_move_on_after_tells_whether_it_fired(engine):
    async def main():
        async with anysock.move_on_after(0.01) as late:
            await anysock.sleep(60)
        async with anysock.move_on_after(60) as early:
            await anysock.sleep(0)
        async with anysock.move_on_after(None) as never:
            await anysock.sleep(0)
        return late.fired, early.fired, never.fired

    assert run(engine, main) == (True, False, False)


def test_a_block_that_is_given_up_may_clean_up_with_awaits(engine):
    async def main():
        steps: list[object] = []
        async with anysock.move_on_after(60) as outer:
            async with anysock.move_on_after(0.01) as inner:
                try:
                    await anysock.sleep(60)
                finally:
                    await nap()
                    steps.append("clean")
            steps.append(inner.fired)
            await nap()
            steps.append(outer.fired)
        return steps

    assert run(engine, main) == ["clean", True, False]


def test_scopes_nest_and_it_is_exact_which_fired(engine):
    async def main():
        async with anysock.move_on_after(0.01) as outer:
            async with anysock.move_on_after(60) as inner:
                await anysock.sleep(60)
        return outer.fired, inner.fired

    assert run(engine, main) == (True, False)


def test_a_scope_may_be_cancelled_by_another_task(concurrent_engine):
    async def main():
        async with anysock.move_on_after(None) as scope:
            anysock.spawn(cancel(scope))
            await anysock.sleep(60)
        return scope.fired

    async def cancel(scope):
        await nap()
        scope.cancel()
        scope.cancel()

    assert run(concurrent_engine, main)


def test_a_cancelled_task_is_told_once_and_may_clean_up(concurrent_engine):
    async def main():
        steps = []

        async def worker():
            try:
                await anysock.sleep(60)
            finally:
                await nap()
                await nap()
                steps.append("clean")

        task = anysock.spawn(worker())
        await nap(0.02)
        task.cancel()
        with pytest.raises(anysock.Cancelled):
            await task.join()
        return steps

    assert run(concurrent_engine, main) == ["clean"]


# -- events and queues --------------------------------------------------------------------------


def test_an_event_wakes_all_who_wait(concurrent_engine):
    async def main():
        event = anysock.Event()
        woken = []

        async def waiter(number):
            await event.wait()
            woken.append(number)

        async with anysock.task_group() as group:
            for number in range(10):
                group.spawn(waiter(number))
            await nap(0.01)
            assert not event.is_set()
            assert woken == []
            event.set()
        await event.wait()
        assert event.is_set()
        return sorted(woken)

    assert run(concurrent_engine, main) == list(range(10))


def test_a_full_queue_makes_the_producer_wait(concurrent_engine):
    async def main():
        queue: anysock.Queue[int] = anysock.Queue(max_items=3)
        most = 0

        async def producer():
            nonlocal most
            for number in range(100):
                await queue.put(number)
                most = max(most, len(queue))
            queue.close()

        async with anysock.task_group() as group:
            group.spawn(producer())
            got = [number async for number in queue]
        return got, most

    got, most = run(concurrent_engine, main)
    assert got == list(range(100))
    assert most == 3


def test_many_producers_and_consumers_lose_nothing(concurrent_engine):
    async def main():
        queue: anysock.Queue[int] = anysock.Queue(max_items=2)
        got: list[int] = []

        async def produce(first):
            for number in range(first, first + 50):
                await queue.put(number)

        async def consume():
            async for number in queue:
                got.append(number)
                if number % 7 == 0:
                    await anysock.sleep(0)

        async with anysock.task_group() as group:
            for _ in range(3):
                group.spawn(consume())
            async with anysock.task_group() as producers:
                for first in range(0, 200, 50):
                    producers.spawn(produce(first))
            queue.close()
        return sorted(got)

    assert run(concurrent_engine, main) == list(range(200))


def test_a_consumer_that_is_cancelled_loses_no_item(concurrent_engine):
    async def main():
        queue: anysock.Queue[int] = anysock.Queue(max_items=10)
        got = []

        async def consume():
            got.append(await queue.get())

        for number in range(20):
            async with anysock.task_group() as group:
                first, _second = group.spawn(consume()), group.spawn(consume())
                await anysock.sleep(0.001)
                queue.put_nowait(2 * number)
                first.cancel()  # it may have been woken already
                await anysock.sleep(0.001)
                queue.put_nowait(2 * number + 1)
                while len(queue) and not (first.done and _second.done):
                    await anysock.sleep(0.001)
            while len(queue):
                got.append(await queue.get())
        return sorted(got)

    assert run(concurrent_engine, main) == list(range(40))


def test_a_closed_queue_hands_out_what_it_has_and_then_says_so(engine):
    async def main():
        queue: anysock.Queue[str] = anysock.Queue(max_items=2)
        with pytest.raises(anysock.QueueEmpty):
            queue.get_nowait()
        queue.put_nowait("a")
        await queue.put("b")
        with pytest.raises(anysock.QueueFull):
            queue.put_nowait("c")
        assert len(queue) == 2
        queue.close()
        queue.close()
        assert queue.closed
        with pytest.raises(anysock.QueueClosed):
            await queue.put("c")
        assert (await queue.get(), queue.get_nowait()) == ("a", "b")
        with pytest.raises(anysock.QueueClosed):
            await queue.get()
        with pytest.raises(anysock.QueueClosed):
            queue.get_nowait()
        with pytest.raises(ValueError, match="at least 1"):
            anysock.Queue(max_items=0)

    run(engine, main)


def test_closing_wakes_who_waits(concurrent_engine):
    async def main():
        full: anysock.Queue[int] = anysock.Queue(max_items=1)
        empty: anysock.Queue[int] = anysock.Queue(max_items=1)
        full.put_nowait(1)
        told = []

        async def tell(coro):
            try:
                await coro
            except anysock.QueueClosed:
                told.append("closed")

        async with anysock.task_group() as group:
            group.spawn(tell(full.put(2)))
            group.spawn(tell(empty.get()))
            await nap(0.01)
            full.close()
            empty.close()
        assert len(full) == 1
        return told

    assert run(concurrent_engine, main) == ["closed", "closed"]


def test_a_chat_server_can_be_written(concurrent_engine):
    async def main():
        rooms: set[anysock.Queue[bytes]] = set()

        async def chat(connection):
            mailbox: anysock.Queue[bytes] = anysock.Queue(max_items=100)
            rooms.add(mailbox)
            try:
                async with anysock.task_group() as group:
                    group.spawn(deliver(connection, mailbox))
                    async for line in connection.lines():
                        for other in list(rooms):
                            await other.put(line)
                    mailbox.close()
            finally:
                rooms.discard(mailbox)

        async def deliver(connection, mailbox):
            async for line in mailbox:
                await connection.send_all(line)

        async with anysock.Server(chat, bind="127.0.0.1:0") as server:
            members = [await anysock.connect(server.addresses[0]) for _ in range(3)]
            while len(rooms) < 3:
                await nap()
            await members[0].send_all(b"hello\n")
            heard = [await member.recv_line() for member in members]
            for member in members:
                await member.close()
        return heard

    assert run(concurrent_engine, main) == [b"hello\n"] * 3


# -- what a cancellation must not lose -----------------------------------------------------------


def test_a_cancelled_accept_loses_no_connection(concurrent_engine, net):
    """cpython 153761: a peer that was accepted as its task was cancelled is gone."""

    async def main():
        engine = current_engine()
        [listener] = engine.listen([LOOPBACK], 100)
        address: Any = listener.addresses[0]
        accepted = []

        async def accept_one():
            accepted.append(await engine.accept(listener))

        clients = []
        for number in range(30):
            task = anysock.spawn(accept_one())
            if number % 3:
                await anysock.sleep(0)
            client = net.socket()
            client.settimeout(10)
            with contextlib.suppress(BlockingIOError):  # a simulated one never blocks
                client.connect(address)
            client.send(b"%3d" % number)
            clients.append(client)
            if number % 2:
                await anysock.sleep(0)
            task.cancel()
            try:
                await task.join()
            except anysock.Cancelled:
                assert len(accepted) <= number
        async with anysock.timeout(10):
            while len(accepted) < len(clients):
                accepted.append(await engine.accept(listener))
        got = sorted([await stream.recv() for stream in accepted])
        listener.close()
        for client in clients:
            client.close()
        for stream in accepted:
            await stream.close()
        return got

    assert run(concurrent_engine, main) == [b"%3d" % number for number in range(30)]


def test_a_cancelled_send_loses_no_byte_unnoticed(concurrent_engine):
    """trio 889: a part of the data has gone, and what comes next would be taken for the rest."""
    size = 8_000_000
    received = bytearray()

    async def main():
        engine = current_engine()
        client, stream = await pair(engine)
        async with anysock.move_on_after(0.05) as scope:
            await stream.send_all(b"x" * size)
        assert scope.fired
        with pytest.raises(anysock.StreamBroken, match="was cancelled"):
            await stream.send_all(b"y")
        await stream.close()
        received.extend(await receive_all(client))
        await client.close()
        return stream.bytes_sent

    sent = run(concurrent_engine, main)
    assert received == b"x" * len(received)
    assert len(received) < size
    if concurrent_engine not in TELLS_NOTHING:
        assert sent == len(received)


def test_a_send_that_is_cancelled_before_its_first_byte_breaks_nothing(concurrent_engine, net):
    if concurrent_engine in TELLS_NOTHING:
        pytest.skip("asyncio does not tell how much of a cancelled send has gone")

    async def main():
        engine = current_engine()
        [listener] = engine.listen([LOOPBACK], 100, socket_buffer=4096)
        client = net.socket()
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(BlockingIOError):  # a simulated one never blocks
            client.connect(listener.addresses[0])
        stream = await engine.accept(listener)
        fits = True
        while fits:  # until the buffers are full; then not one byte more fits
            before = stream.bytes_sent
            async with anysock.move_on_after(0.05) as scope:
                await stream.send_all(bytes(1024 if before < 8192 else 1))
            fits = not scope.fired
        assert stream.bytes_sent == before
        await engine.to_thread(receive_exactly, client, before)
        async with anysock.timeout(5):
            await stream.send_all(b"last")
        assert await engine.to_thread(receive_exactly, client, 4) == b"last"
        listener.close()
        client.close()
        await stream.close()

    run(concurrent_engine, main)


# -- one receiver, one sender -------------------------------------------------------------------


async def pair(engine):
    [listener] = engine.listen([LOOPBACK], 10)
    client = await engine.connect(socket.AF_INET, listener.addresses[0])
    stream = await engine.accept(listener)
    listener.close()
    return client, stream


def test_a_second_receiver_gets_a_clear_error(concurrent_engine):
    async def main():
        client, stream = await pair(current_engine())
        first = anysock.spawn(stream.recv())
        await nap(0.02)
        with pytest.raises(anysock.StreamBusy):
            await stream.recv()
        await client.send_all(b"for the first")
        assert await first.join() == b"for the first"
        await client.close()
        await stream.close()

    run(concurrent_engine, main)


def test_a_second_sender_gets_a_clear_error(concurrent_engine):
    async def main():
        client, stream = await pair(current_engine())
        first = anysock.spawn(stream.send_all(b"x" * 8_000_000))
        await nap(0.02)
        with pytest.raises(anysock.StreamBusy):
            await stream.send_all(b"y" * 8_000_000)
        received = 0
        while received < 8_000_000:
            received += len(await client.recv())
        await first.join()
        await close_all(client, stream)

    run(concurrent_engine, main)


def test_a_close_wakes_who_waits_with_a_clear_error(concurrent_engine):
    async def main():
        client, stream = await pair(current_engine())
        told = []

        async def receive():
            try:
                await stream.recv()
            except anysock.StreamClosed as error:
                told.append(str(error))

        task = anysock.spawn(receive())
        await nap(0.02)
        await stream.close()
        await task.join()
        with pytest.raises(anysock.StreamClosed):
            await stream.recv()
        with pytest.raises(anysock.StreamClosed):
            await stream.send_all(b"x")
        await stream.close()
        await client.close()
        return told

    [told] = run(concurrent_engine, main)
    assert "closed" in told


def test_a_task_that_only_lets_others_run_is_cancelled_too(concurrent_engine):
    """It never waits for anything; so it must be told where it says that others may run."""

    async def main():
        async def spin():
            while True:
                await anysock.sleep(0)

        task = anysock.spawn(spin())
        await anysock.sleep(0.002)
        task.cancel()
        async with anysock.timeout(10):
            with pytest.raises(anysock.Cancelled):
                await task.join()

    anysock.run(main, engine=concurrent_engine)


def test_a_thread_that_calls_after_the_end_is_told_nothing(engine):
    """It can't know when that is; that of a worker's supervisor does not."""
    engines: list[Any] = []

    async def main():
        engines.append(current_engine())

    anysock.run(main, engine=engine)
    called: list[bool] = []
    engines[0].call_from_thread(lambda: called.append(True))
    assert called == ([] if engines[0].one_thread else [True])
