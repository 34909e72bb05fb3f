"""`Outbox` and `Broadcast`: what a client that reads slowly costs, and whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anysock
from anysock import Broadcast, CloseReason, Outbox, Server
from anysock.engines import engine_entry
from anysock.testing import connection_pair
from tests.contract.in_process.test_locks import until
from tests.harness import CONCURRENT_ENGINES, PATIENCE, SIMULATED
from tests.told import Told

# The buffer of a connection in memory, and a message that is larger: its send does not end until
# the client reads.
BUFFER = 16
LARGE = b"L" * 100


async def stuck(**bounds: Any) -> tuple[anysock.Connection, anysock.Connection, Outbox]:
    """A client that does not read, our end, and its outbox, which is to be entered."""
    client, ours = connection_pair(BUFFER)
    return client, ours, Outbox(ours, **bounds)


async def fill(outbox: Outbox, *messages: bytes) -> None:
    """One large message is being sent, and `messages` wait."""
    assert outbox.offer(LARGE)
    await until(lambda: not len(outbox))
    for message in messages:
        assert outbox.offer(message)


def test_what_is_offered_is_sent_in_order_and_all_of_it_before_the_block_ends(concurrent_engine):
    async def main():
        client, ours = connection_pair()
        async with Outbox(ours) as outbox:
            for number in range(1000):
                assert outbox.offer(b"%d\n" % number)
        assert outbox.closed
        assert not outbox.offer(b"late")
        with pytest.raises(anysock.StreamClosed, match="an outbox that is closed"):
            await outbox.send(b"late")
        await ours.close()
        return [int(line) async for line in client.lines()]

    assert anysock.run(main, engine=concurrent_engine) == list(range(1000))


@pytest.mark.parametrize(
    ("when_full", "taken", "arrive"),
    [("drop_newest", False, b"abc"), ("drop_oldest", True, b"bcd")],
)
def test_when_it_is_full_one_is_dropped_and_counted(concurrent_engine, when_full, taken, arrive):
    async def main():
        client, _, outbox = await stuck(max_items=3, when_full=when_full)
        async with outbox:
            await fill(outbox, b"a", b"b", b"c")
            assert outbox.offer(b"d") is taken
            assert (len(outbox), outbox.waiting_bytes) == (3, 3)
            assert (outbox.dropped, outbox.dropped_bytes) == (1, 1)
            assert await client.recv_exactly(len(LARGE) + 3) == LARGE + arrive

    anysock.run(main, engine=concurrent_engine)


def test_bytes_are_a_bound_too_and_one_message_has_room_in_any_case(concurrent_engine):
    async def main():
        client, _, outbox = await stuck(max_bytes=10, when_full="drop_newest")
        async with outbox:
            await fill(outbox, b"x" * 50)
            assert not outbox.offer(b"y")
            assert await client.recv_exactly(150) == LARGE + b"x" * 50
            await fill(outbox, b"12345", b"67890")
            assert not outbox.offer(b"!")
            assert await client.recv_exactly(110) == LARGE + b"1234567890"
        assert outbox.dropped == 2

    anysock.run(main, engine=concurrent_engine)


def test_who_sends_waits_for_room_in_the_order_of_arrival(concurrent_engine):
    async def main():
        client, _, outbox = await stuck(max_items=1, when_full="wait")
        async with outbox, anysock.task_group() as group:
            await fill(outbox, b"a")
            assert not outbox.offer(b"lost")
            tasks = []
            for number, message in enumerate((b"b", b"c", b"d")):
                tasks.append(group.spawn(outbox.send(message)))
                await until(lambda: not outbox._turn.free)
                await until(lambda number=number: len(outbox._turn._waiting) == number)
            assert not any(task.done for task in tasks)
            assert await client.recv_exactly(len(LARGE) + 4) == LARGE + b"abcd"
        assert outbox.dropped == 0

    anysock.run(main, engine=concurrent_engine)


def test_one_that_is_cancelled_while_it_waits_for_room_holds_up_nobody(concurrent_engine):
    async def main():
        client, _, outbox = await stuck(max_items=1)
        async with outbox:
            await fill(outbox, b"a")
            first = anysock.spawn(outbox.send(b"given up"))
            await until(lambda: not outbox._turn.free)
            second = anysock.spawn(outbox.send(b"b"))
            await until(lambda: len(outbox._turn._waiting) == 1)
            first.cancel()
            with pytest.raises(anysock.Cancelled):
                await first.join()
            assert await client.recv_exactly(len(LARGE) + 2) == LARGE + b"ab"
            await second.join()

    anysock.run(main, engine=concurrent_engine)


def test_who_reads_too_slowly_is_disconnected(concurrent_engine):
    async def main():
        client, ours, outbox = await stuck(max_items=2)
        with pytest.raises(ConnectionAbortedError):
            async with outbox:
                await fill(outbox, b"a", b"bc")
                assert not outbox.offer(b"d")
                assert not outbox.offer(b"e")
                await anysock.sleep(PATIENCE)
        assert ours.aborted
        assert ours.overrun is not None
        assert (ours.overrun.items, ours.overrun.bytes) == (2, 3)
        assert "it reads too slowly: 2 messages, 3 bytes, waited for it" in str(ours.overrun)
        assert outbox.dropped == 0
        await ours.close()  # as a server does
        with pytest.raises(ConnectionResetError):
            while await client.recv():
                pass

    anysock.run(main, engine=concurrent_engine)


def test_the_log_says_why_and_the_handler_has_not_failed(concurrent_engine):
    hub = Broadcast(max_items=1)
    told = Told()

    async def handler(connection):
        async with hub.join(connection):
            await connection.recv()

    async def main():
        async with Server(
            handler, bind="127.0.0.1:0", events=told, socket_buffer="4KiB", drain_timeout=PATIENCE
        ) as server:
            client = await anysock.connect(server.addresses[0])
            await until(lambda: len(hub))
            async with anysock.timeout(PATIENCE):
                while await hub.publish(b"x" * 1_000_000):
                    await anysock.sleep(0)
            await until(lambda: not server.connections)
            assert not len(hub)
            assert hub.disconnected == 1
        await client.close()

    anysock.run(main, engine=concurrent_engine)
    ((_, reason, error),) = told.of("connection_closed")
    assert reason is CloseReason.OUTBOX_FULL
    assert isinstance(error, anysock.OutboxFull)
    assert told.of("handler_failed") == []


def test_a_block_whose_peer_is_gone_is_given_up(concurrent_engine):
    async def main():
        client, ours = connection_pair()
        with pytest.raises(ConnectionError):
            async with Outbox(ours) as outbox:
                client.abort()
                await client.close()
                outbox.offer(b"hello")
                await anysock.sleep(PATIENCE)
        assert outbox.closed

    anysock.run(main, engine=concurrent_engine)


def test_a_block_that_fails_or_is_cancelled_drops_the_rest(concurrent_engine):
    async def main():
        # (Under `threads`, a send notices its cancellation when it returns.)
        client, ours = connection_pair()
        with pytest.raises(ValueError, match="of the handler"):
            async with Outbox(ours):
                raise ValueError("of the handler")
        client, ours = connection_pair()
        async with anysock.move_on_after(0.01) as scope, Outbox(ours):
            await anysock.sleep(PATIENCE)
        assert scope.fired
        await ours.close()
        assert await client.recv() == b""

    anysock.run(main, engine=concurrent_engine)


def test_under_an_engine_that_does_one_thing_at_a_time_it_is_refused():
    async def main():
        _client, ours = connection_pair()
        with pytest.raises(anysock.UsageError, match="'blocking' does one thing at a time, and an"):
            Outbox(ours)

    anysock.run(main, engine="blocking")


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"max_items": 0}, "max_items is at least 1"),
        ({"max_bytes": "1MiB"}, "max_bytes is a whole number"),
        ({"when_full": "block"}, "when_full is one of wait, drop_oldest, drop_newest, disconnect"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds, says):
    with pytest.raises(anysock.UsageError, match=says):
        Broadcast(**bounds)


# -- many -----------------------------------------------------------------------------------------


async def members(hub: Broadcast, number: int, group: anysock.TaskGroup) -> list[Any]:
    """Clients whose handlers have joined, and stay until their peer leaves."""

    async def handler(ours):
        try:
            async with hub.join(ours):
                await ours.recv()
        except ConnectionError:
            pass
        await ours.close()

    clients = []
    for _ in range(number):
        client, ours = connection_pair(BUFFER)
        group.spawn(handler(ours))
        clients.append(client)
        await until(lambda: len(hub) == len(clients))
    return clients


@pytest.mark.parametrize("when_full", ["disconnect", "drop_oldest", "drop_newest"])
def test_one_that_does_not_read_holds_up_nobody(concurrent_engine, when_full):
    hub = Broadcast(max_items=5, when_full=when_full)

    async def main():
        async with anysock.timeout(PATIENCE), anysock.task_group() as group:
            deaf, anna, bob = await members(hub, 3, group)
            for number in range(50):
                message = b"%d %s\n" % (number, b"x" * 50)
                assert await hub.publish(message) >= 2
                assert await anna.recv_line() == await bob.recv_line() == message
            assert (hub.disconnected + hub.dropped) >= 1
            for client in (anna, bob):
                await client.send_eof()
            deaf.abort()
            await deaf.close()

    anysock.run(main, engine=concurrent_engine)
    assert len(hub) == 0
    assert (hub.disconnected == 1) is (when_full == "disconnect")
    assert (hub.dropped > 0) is (when_full != "disconnect")


def test_to_wait_for_the_slowest_is_a_policy_too(concurrent_engine):
    hub = Broadcast(max_items=1, when_full="wait")

    async def main():
        async with anysock.timeout(PATIENCE), anysock.task_group() as group:
            slow, anna = await members(hub, 2, group)
            assert await hub.publish(LARGE) == 2
            assert await anna.recv_exactly(100) == LARGE
            await until(lambda: not any(len(outbox) for outbox in hub))
            assert await hub.publish(b"1") == 2  # it waits for the slow one
            publishing = group.spawn(hub.publish(b"2"))
            assert await anna.recv_exactly(2) == b"12"
            assert not publishing.done
            assert await slow.recv_exactly(102) == LARGE + b"12"
            assert await publishing.join() == 2
            for client in (slow, anna):
                await client.send_eof()

    anysock.run(main, engine=concurrent_engine)
    assert hub.dropped == hub.disconnected == 0


def test_one_may_be_left_out_and_one_that_has_left_gets_nothing(concurrent_engine):
    hub = Broadcast()

    async def main():
        assert await hub.publish(b"nobody is there") == 0
        async with anysock.timeout(PATIENCE), anysock.task_group() as group:
            anna, bob = await members(hub, 2, group)
            speaker = next(iter(hub))
            assert speaker.connection.peer == anna.local
            assert await hub.publish(b"hello", besides=speaker) == 1
            assert await bob.recv_exactly(5) == b"hello"
            await anna.send_eof()
            assert await anna.recv() == b""
            await until(lambda: len(hub) == 1)
            assert await hub.publish(b"!") == 1
            await bob.send_eof()

    anysock.run(main, engine=concurrent_engine)


def test_one_outbox_may_be_in_several(concurrent_engine):
    async def main():
        news, weather = Broadcast(), Broadcast()
        client, ours = connection_pair()
        async with anysock.timeout(PATIENCE), Outbox(ours) as outbox:
            for hub in (news, weather):
                hub.add(outbox)
            assert list(news) == list(weather) == [outbox]
            assert [await hub.publish(b"1") for hub in (news, weather)] == [1, 1]
            news.remove(outbox)
            news.remove(outbox)
            assert [await hub.publish(b"2") for hub in (news, weather)] == [0, 1]
            assert await client.recv_exactly(3) == b"112"

    anysock.run(main, engine=concurrent_engine)


def test_a_message_to_very_many_holds_up_nobody(concurrent_engine):
    """Whoever comes meanwhile has a turn."""

    async def main():
        hub, turns = Broadcast(), []

        async def other():
            turns.append("other")

        class Counts(Outbox):
            def put(self, data):
                turns.append("put")
                return super().put(data)

        outboxes = [Counts(connection_pair()[0]) for _ in range(1500)]
        for outbox in outboxes:
            hub.add(outbox)
        task = anysock.spawn(other())
        assert await hub.publish(b"hello") == 1500
        await task.join()
        return turns

    turns = anysock.run(main, engine=concurrent_engine)
    # (With threads of their own, tasks run when the system lets them.)
    assert turns.index("other") < 1024 or not engine_entry(concurrent_engine).one_thread


def test_what_several_publish_at_once_arrives_in_the_order_of_each(concurrent_engine):
    hub = Broadcast(max_items=10_000)

    async def publish(name):
        for number in range(50):
            await hub.publish(b"%d %d\n" % (name, number))
            await anysock.sleep(0)

    async def main():
        async with anysock.timeout(PATIENCE), anysock.task_group() as group:
            clients = await members(hub, 3, group)
            for name in range(4):
                group.spawn(publish(name))
            for client in clients:
                lines = [tuple(map(int, (await client.recv_line()).split())) for _ in range(200)]
                for name in range(4):
                    assert [each for who, each in lines if who == name] == list(range(50))
                await client.send_eof()

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("engine", [*CONCURRENT_ENGINES, *SIMULATED])
@settings(max_examples=15)
@given(
    st.sampled_from(["drop_oldest", "drop_newest", "wait"]),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=30),
)
def test_whatever_is_not_dropped_arrives_once_and_in_order(engine, when_full, most, messages):
    """However the client reads: how much, and after how many messages."""
    hub = Broadcast(max_items=most, when_full=when_full)

    async def main():
        async with anysock.timeout(PATIENCE), anysock.task_group() as group:
            (client,) = await members(hub, 1, group)
            received = []

            async def read():
                async for line in client.lines():
                    received.append(int(line.split()[0]))
                    for _ in range(messages[received[-1]][1]):
                        await anysock.sleep(0)

            reading = group.spawn(read())
            for number, (size, pause) in enumerate(messages):
                await hub.publish(b"%d %s\n" % (number, b"x" * size))
                for _ in range(pause):
                    await anysock.sleep(0)
            await client.send_eof()
            await reading.join()
            assert received == sorted(set(received))
            assert len(received) + hub.dropped == len(messages)
            assert when_full != "wait" or not hub.dropped

    anysock.run(main, engine=engine)
