"""Deadlines of a handshake, of a connect and of a lifespan; and who waits for whom in a broadcast.

Under each engine, by a real clock: `test_connect_options.py`, `test_lifespan.py`,
`test_broadcast.py`, `test_tls.py`.
"""

from __future__ import annotations

import contextlib
import copy

import pytest

import anysock
from anysock import CloseReason, Connection, sim
from anysock.server.ending import CLEAN_UP_SECONDS
from anysock.tasks.happy_eyeballs import ATTEMPT_DELAY_SECONDS
from tests.simulation import receive_all, serving, simulate

# -- handshakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.3, 300])
@pytest.mark.parametrize("every", [0, 0.1], ids=["silent", "drips"])
def test_a_client_that_does_not_shake_hands_has_a_deadline(limit, every):
    """However its bytes come: here as those of a record that is never complete."""

    async def scenario(world):
        options = {"bind": "tls://:7", "tls_cert": sim.CERTIFICATE, "handshake_timeout": limit}
        async with serving(world, **options) as running, await running.connect() as client:
            running.expected_errors.append("handshake")
            began = world.now
            await client.send_all(b"\x16\x03\x01\x02\x00")
            with contextlib.suppress(ConnectionError):
                while every:
                    await world.sleep(every * limit)
                    await client.send_all(b"x")
            with contextlib.suppress(ConnectionError):
                assert await receive_all(client) == b""
            assert limit <= world.now - began <= limit * (1 + 2 * every) + 0.01
            await running.until_closed()
            assert running.told.reasons == [CloseReason.HANDSHAKE]

    simulate(scenario)


def test_who_shakes_hands_slowly_but_in_time_is_served():
    async def scenario(world):
        options = {"bind": "tls://:7", "tls_cert": sim.CERTIFICATE, "handshake_timeout": 3}

        async def ask(address: str) -> bytes:
            async with await anysock.connect(address, tls=sim.client_context()) as connection:
                await connection.send_all(b"hello")
                return await connection.recv_exactly(5)

        async with serving(world, **options) as running:
            client = world.host("client")
            world.link("client", "server").latency = 0.5
            asking = client.spawn(ask("tls://server:7"))
            assert await asking.join() == b"hello"
            await running.until_closed()

    simulate(scenario)


# -- connects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.05, 50])
@pytest.mark.parametrize("kind", ["parted", "says nothing", "many addresses"])
def test_one_that_does_not_answer_is_given_up(kind, limit):
    """After just as long as it was given; and nothing of it is left."""

    async def scenario(world):
        async with serving(world) as running:
            mine = world.host("scenario").host
            here = len(mine.sockets)
            server = running.host.host.addresses[0]
            where = "server:7" if kind == "many addresses" else f"tcp://{server}:7"
            if kind == "says nothing":
                where = f"tls://{server}:7"
                running.host.stall()
            else:
                world.partition("scenario", "server")
            began = world.now
            with pytest.raises(TimeoutError):
                await anysock.connect(where, timeout=limit)
            assert limit <= world.now - began < limit + 0.001
            world.heal()
            running.host.resume()
            await world.sleep(limit + 10)
            assert len(mine.sockets) == here

    simulate(scenario)


def test_a_dead_address_costs_a_quarter_of_a_second():
    """The next is tried beside it then, and wins."""

    async def scenario(world):
        world.host("dead")
        world.partition("scenario", "dead")
        async with serving(world) as running:
            dead, alive = (world.host(each).host.addresses[0] for each in ("dead", "server"))
            mine = world.host("scenario").engine
            mine.machine = copy.copy(mine.machine)  # all hosts share one
            mine.machine.resolve = lambda *_, **__: [(2, (dead, 7)), (2, (alive, 7))]
            began = world.now
            async with await anysock.connect("both:7") as client:
                took = world.now - began
                assert client.peer[0] == alive
            await running.until_closed()
        assert ATTEMPT_DELAY_SECONDS <= took < ATTEMPT_DELAY_SECONDS + 0.02

    simulate(scenario)


# -- the lifespan ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy", "cleaning_up", "done"),
    [(0, 0.5, True), (0, 4.9, True), (0, 5.1, False), (4.5, 0.7, True), (4.5, 0.8, False)],
)
def test_background_tasks_have_what_is_left_of_the_drain_to_clean_up(busy, cleaning_up, done):
    """And a moment at least."""
    notes: list[str] = []

    async def works() -> None:
        try:
            await anysock.sleep(3000)
        finally:
            async with anysock.shielded(60):
                await anysock.sleep(cleaning_up)
            notes.append("cleaned up")

    @contextlib.asynccontextmanager
    async def lifespan(server):
        server.spawn(works())
        yield
        notes.append("ends")

    async def handler(connection: Connection) -> None:
        await anysock.sleep(busy)

    async def scenario(world):
        options = {"lifespan": lifespan, "drain_timeout": 5}
        async with serving(world, handler, **options) as running:
            running.expected_errors += ["did not end"]
            async with await running.connect():
                await running.until(lambda: running.told.of("connection_opened"), "it has come")
                began = world.now
                running.signal()
                with contextlib.suppress(Exception):
                    await running.ended()
                took = world.now - began
            most = max(5.0, busy + CLEAN_UP_SECONDS)
            assert min(busy + cleaning_up, most) - 0.01 <= took <= most + 0.01
            assert ("cleaned up" in notes) == done

    simulate(scenario)


# -- a broadcast -----------------------------------------------------------------------------------


@pytest.mark.parametrize("when_full", ["disconnect", "drop_oldest", "drop_newest", "wait"])
def test_one_that_does_not_read_holds_up_nobody_unless_that_is_asked_for(when_full):
    hub = anysock.Broadcast(max_items=5, when_full=when_full)

    async def member(connection: Connection) -> None:
        async with hub.join(connection):
            await receive_all(connection)

    async def publish() -> None:
        for number in range(100):
            await hub.publish(b"%05d" % number + bytes(99_995))
            await anysock.sleep(0.01)

    async def scenario(world):
        async with serving(world, member, write_timeout=0) as running:
            running.expected_errors.append("closed the connection")
            slow, quick = [await running.connect() for _ in range(2)]
            await running.until(lambda: len(hub) == 2, "both have joined")
            publishing = running.host.spawn(publish())
            heard = 0
            async with anysock.move_on_after(100):
                while heard < 100:
                    data = await quick.recv_exactly(100_000)
                    assert int(data[:5]) == heard, "in order, and all of it"
                    heard += 1
            if when_full == "wait":
                assert 5 <= heard < 20
                assert not publishing.done
            else:
                assert heard == 100
                assert world.now < 1.2
            assert hub.disconnected == (when_full == "disconnect")
            assert (hub.dropped > 50) == when_full.startswith("drop")
            for client in (slow, quick):
                client.abort()
                await client.close()
            await publishing.ended()

    simulate(scenario)
