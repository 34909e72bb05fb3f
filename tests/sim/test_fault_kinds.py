"""What each kind of fault does, as those see it who talk to each other."""

from __future__ import annotations

import errno

import pytest

import anysock
from anysock import sim
from anysock.engines.sim.faults import FAULTS, parse
from anysock.sim.cases import Case
from anysock.sim.plan import Plan
from anysock.sim.scenario import run_history
from tests.sim.another_process import same_in_another_process
from tests.sim.network import Hosts


async def twenty_messages(connection) -> None:
    for number in range(20):
        data = bytes([number]) * 100
        await connection.send_all(data)
        assert await connection.recv_exactly(100) == data


def passes(faults: str, *, seed: int = 1) -> Hosts:
    """With these faults all goes well; it only takes longer, or other ways."""
    hosts = Hosts(faults, seed=seed)
    hosts.ask(twenty_messages)
    return hosts


# -- on the way ----------------------------------------------------------------------------------


def test_latency_is_each_links_own():
    hosts = Hosts("latency=80ms:least=20ms")
    hosts.ask(twenty_messages)
    there = hosts.network.link(hosts.client.host, hosts.server.host)
    back = hosts.network.link(hosts.server.host, hosts.client.host)
    assert 0.02 <= there.latency <= 0.08
    assert there.latency != back.latency
    # 20 messages, one more for the handshake.
    assert hosts.network.now >= 21 * (there.latency + back.latency)
    assert hosts.fired["latency"] == 2


def test_with_jitter_what_is_sent_stays_in_order():
    async def many(connection) -> None:
        for number in range(200):
            await connection.send_all(bytes([number]))
            await anysock.sleep(0.001)
        assert await connection.recv_exactly(200) == bytes(range(200))

    hosts = Hosts("jitter=50ms")
    hosts.ask(many)
    assert hosts.fired["jitter"] > 200


def test_a_segment_that_is_split_arrives_in_pieces():
    async def pieces(connection) -> list[int]:
        await connection.send_all(bytes(1000))
        sizes: list[int] = []
        while sum(sizes) < 1000:
            sizes.append(len(await connection.recv(1000)))
        return sizes

    hosts = Hosts("split=0.5")
    assert len(hosts.ask(pieces)) > 1
    assert hosts.fired["split"]


def test_segments_that_are_merged_arrive_together():
    async def together(connection) -> bytes:
        await connection.send_all(b"a")
        await anysock.sleep(0.001)
        await connection.send_all(b"b")
        return bytes(await connection.recv())

    assert Hosts("").ask(together) == b"a"
    hosts = Hosts("merge=1:lasts=1s")
    assert hosts.ask(together) == b"ab"
    assert hosts.fired["merge"] >= 2


def test_a_reset_on_the_way_is_told_to_both_ends():
    ended: list[anysock.CloseReason] = []

    class Told(anysock.Events):
        def connection_closed(self, connection, reason, error) -> None:
            ended.append(reason)

    # Of the segments of each end, the sixth.
    hosts = Hosts(parse("reset=1").keeping("reset", ["client0.0>#5"]))
    with pytest.raises(ConnectionResetError):
        hosts.ask(twenty_messages, events=Told())
    assert ended == [anysock.CloseReason.LOST]
    assert hosts.fired["reset"] == 1


def test_of_a_peer_that_has_vanished_nothing_is_heard():
    async def silence(connection) -> None:
        await connection.send_all(b"hello")
        async with anysock.timeout(30):
            await connection.recv_exactly(5)

    hosts = Hosts("half-open=1")
    with pytest.raises(TimeoutError):
        hosts.ask(silence)
    assert hosts.network.now > 30
    assert hosts.fired["half-open"] == 1


def test_keepalive_finds_out_that_a_peer_has_vanished():
    async def waiting(connection) -> None:
        connection.keepalive(idle=10, interval=5, probes=3)
        await connection.send_all(b"hello")
        await connection.recv()

    hosts = Hosts("half-open=1")
    with pytest.raises(TimeoutError) as caught:
        hosts.ask(waiting)
    assert caught.value.errno == errno.ETIMEDOUT
    assert 25 <= hosts.network.now < 26


@pytest.mark.parametrize("name", ["partition", "one-way"])
def test_what_is_lost_in_a_partition_comes_when_it_is_sent_again(name):
    hosts = passes(f"{name}:every=10ms:lasts=5s:times=1,latency=2ms:least=2ms")
    assert hosts.fired[name] == 1
    links = hosts.notes(name)
    assert len(links) == (2 if name == "partition" else 1)
    # Sent again after 0.2 s, 0.6 s, 1.4 s, and so on, each in the trace but once.
    assert hosts.network.now > 0.2


def test_what_was_held_comes_as_soon_as_it_is_let_go():
    hosts = passes("hold:every=10ms:lasts=300ms:times=1,latency=2ms:least=2ms")
    assert hosts.fired["hold"] == 1
    [(began, *_), _] = hosts.notes("hold")
    assert began < hosts.network.now < began + 0.5


def test_a_partition_catches_what_is_on_its_way():
    hosts = Hosts("latency=100ms:least=100ms")
    link = hosts.network.link(hosts.client.host, hosts.server.host)

    async def caught(connection) -> float:
        await connection.send_all(b"a")
        await anysock.sleep(0.05)
        link.stop("cut")
        hosts.network.after(1.0, lambda: link.go_on("cut"))
        assert await connection.recv() == b"a"
        return hosts.network.now

    # 0.2 s and 0.1 s for the connect, 0.05 s; then lost, and sent again after 0.2 + 0.4 + 0.8 s.
    assert hosts.ask(caught) == pytest.approx(0.25 + 1.4 + 0.1 + 0.1, abs=0.01)


def test_a_link_that_drops_makes_all_take_longer():
    hosts = Hosts("latency=1ms:least=1ms")
    hosts.network.link(hosts.client.host, hosts.server.host).drop = 0.5
    hosts.ask(twenty_messages)
    assert hosts.network.now > 1


# -- connecting and accepting --------------------------------------------------------------------


def test_a_connect_is_refused():
    hosts = Hosts("refuse=1")
    with pytest.raises(ConnectionRefusedError):
        hosts.ask(twenty_messages)
    assert hosts.fired["refuse"] == 1


def test_while_a_backlog_is_full_the_syn_is_repeated():
    hosts = Hosts(parse("backlog=1").keeping("backlog", ["#0", "#1"]))
    hosts.ask(twenty_messages)
    assert hosts.fired["backlog"] == 2
    # After 1 s, and after 2 s more.
    assert 3.0 < hosts.network.now < 3.2


@pytest.mark.parametrize("name", ["emfile", "enfile", "enobufs"])
def test_who_can_not_be_accepted_is_served_later(name):
    failures: list[OSError] = []

    class Told(anysock.Events):
        def accept_failed(self, error, left_out) -> None:
            failures.append(error)

    hosts = Hosts(parse(f"{name}=1:lasts=250ms").keeping(name, ["#0"]))
    hosts.ask(twenty_messages, events=Told())
    assert hosts.fired[name] == 1
    assert [error.errno for error in failures] == [getattr(errno, name.upper())]
    # The server has tried again each 100 ms.
    assert 0.1 < hosts.network.now < 0.4


# -- system calls --------------------------------------------------------------------------------


def test_a_send_takes_part_and_a_receive_returns_part():
    hosts = passes("partial=1,short=1")
    assert hosts.fired["partial"] > 20
    assert hosts.fired["short"] > 20


def test_small_buffers_make_a_sender_wait_for_its_reader():
    async def much(connection) -> None:
        with pytest.raises(TimeoutError):
            async with anysock.timeout(5):
                await connection.send_all(bytes(100_000))

    hosts = Hosts("small-buffers=1")
    hosts.ask(much, drain_timeout=0)
    assert hosts.fired["small-buffers"] == 2


def test_a_receiver_closes_its_window_for_a_while():
    hosts = passes("zero-window=1:lasts=100ms")
    assert hosts.fired["zero-window"] >= 40
    assert hosts.network.now > 0.5


def test_a_slow_reader_reads_little_at_a_time():
    async def one_message(connection) -> list[int]:
        await connection.send_all(bytes(2000))
        sizes: list[int] = []
        while sum(sizes) < 2000:
            sizes.append(len(await connection.recv()))
        return sizes

    hosts = Hosts("slow-reader=1:bytes=100:lasts=10ms")
    sizes = hosts.ask(one_message)
    assert max(sizes[:-1]) <= 100
    assert hosts.network.now > 0.02
    assert hosts.fired["slow-reader"] == 1


# -- hosts ---------------------------------------------------------------------------------------


def test_a_host_stands_still():
    hosts = passes("stall:every=5ms:lasts=3s:times=1,latency=2ms:least=2ms", seed=2)
    assert hosts.fired["stall"]
    assert hosts.network.now > 0.2


@pytest.mark.parametrize("power", [0, 1])
def test_a_server_that_has_crashed_starts_again(power):
    async def client() -> list[float]:
        lost: list[float] = []
        while world.now < 10:
            try:
                async with await anysock.connect("server:7", timeout=1) as connection:
                    while world.now < 10:
                        async with anysock.timeout(1):
                            await connection.send_all(b"hello")
                            assert await connection.recv_exactly(5) == b"hello"
                        await anysock.sleep(0.1)
            except (OSError, anysock.EndOfStream):
                lost.append(world.now)
                await anysock.sleep(0.1)
        return lost

    async def scenario(world: sim.World) -> None:
        world.host("server").serve("echo", bind="tcp://:7")
        # It is at the server that what follows is to strike.
        lost = await client()
        assert 1 < len(lost) < 40
        assert max(lost) < 8

    world = sim.World(4, faults=f"crash:every=1s:lasts=5s:power={power}")
    world.run(scenario)
    assert world.fired["crash"] == 1
    what = "loses power" if power else "crashes"
    assert [each[1:3] for each in world.network.trace if each[2] in (what, "restarts")] == [
        ("server", what),
        ("server", "restarts"),
    ]


def test_a_wall_clock_jumps_and_no_other():
    hosts = Hosts("clock:every=1s")

    async def look() -> tuple[float, float]:
        engine = hosts.client
        wall, clock = engine.time(), engine.now()
        await anysock.sleep(10)
        return engine.time() - wall, engine.now() - clock

    async def main() -> tuple[float, float]:
        return await hosts.on(hosts.client, look())

    wall, clock = hosts.run(main)
    assert clock == pytest.approx(10, abs=0.01)
    assert abs(wall - clock) > 1
    assert hosts.fired["clock"] == 3


def test_a_slow_step_makes_all_of_a_host_wait():
    hosts = passes("slow-step=0.5:lasts=100ms")
    assert hosts.fired["slow-step"] > 10
    assert hosts.network.now > 0.3


# -- schedules -----------------------------------------------------------------------------------


def orders(faults: str, seeds: int = 20) -> set[tuple[int, ...]]:
    """In which orders five tasks run that are ready at once."""
    found = set()
    for seed in range(seeds):
        hosts = Hosts(faults, seed=seed)
        told: list[int] = []

        async def tell(number: int, told: list[int] = told) -> None:
            told.append(number)
            await anysock.sleep(0)
            # Each of the others has run once.
            assert sorted(told[:5]) == list(range(5))
            told.append(number)

        async def main(tell=tell) -> None:
            async with anysock.task_group() as group:
                for number in range(5):
                    group.spawn(tell(number))

        hosts.run(main)
        found.add(tuple(told[:5]))
        assert sorted(told[5:]) == list(range(5))
    return found


def test_ready_tasks_run_in_any_order_but_each_once():
    assert orders("") == {(0, 1, 2, 3, 4)}
    assert len(orders("schedule")) > 15
    assert len(orders("schedule=3")) > 15


def test_with_priorities_the_order_stays_the_same_until_it_changes():
    hosts = Hosts("schedule=1:steps=1000000", seed=3)
    rounds: list[list[str]] = [[] for _ in range(5)]

    async def tell(name: str) -> None:
        for told in rounds:
            told.append(name)
            await anysock.sleep(0)

    async def main() -> None:
        async with anysock.task_group() as group:
            for name in "abcde":
                group.spawn(tell(name))

    hosts.run(main)
    assert len({tuple(told) for told in rounds}) == 1
    assert rounds[0] != list("abcde")
    assert hosts.fired["schedule"]


def race_is_met(faults: str) -> bool:
    """Whether one of some seeds lets a task look at a box between two steps of another, which
    leaves it open for one round."""
    for seed in range(20):
        hosts = Hosts(faults, seed=seed)
        box: dict[str, bool] = {}
        seen: list[bool] = []

        async def write(box: dict[str, bool] = box) -> None:
            for _ in range(5):
                await anysock.sleep(0)
            box["open"] = True
            await anysock.sleep(0)
            box["open"] = False

        async def look(box: dict[str, bool] = box, seen: list[bool] = seen) -> None:
            for _ in range(6):
                await anysock.sleep(0)
            seen.append(box.get("open", False))

        async def main(write=write, look=look) -> None:
            async with anysock.task_group() as group:
                group.spawn(write())
                for _ in range(3):
                    group.spawn(anysock.sleep(0))
                group.spawn(look())

        hosts.run(main)
        if any(seen):
            return True
    return False


def test_a_race_is_met_by_another_order_and_never_by_the_order_of_arrival():
    assert not race_is_met("")
    assert race_is_met("schedule")
    assert race_is_met("schedule=3")


@pytest.mark.parametrize("faults", ["schedule", "schedule=3"])
def test_in_any_order_all_is_served(faults):
    hosts = Hosts(faults, clients=5, seed=4)

    async def client() -> None:
        async with await anysock.connect("server:7") as connection:
            await twenty_messages(connection)

    async def main() -> None:
        hosts.serve()
        await anysock.sleep(0.001)
        tasks = [each.spawn_here(client()) for each in hosts.clients]
        while not all(task.done for task in tasks):
            await anysock.sleep(0.001)
        for task in tasks:
            task.result()

    hosts.run(main)
    assert hosts.fired["schedule"]


# -- all of them ---------------------------------------------------------------------------------

EVERYTHING = "all,-crash"


def rough_life(faults: object = EVERYTHING, seed: int = 5) -> Hosts:
    """Some clients, most of whom something happens to; at last all is healed, and all must end."""
    hosts = Hosts(faults, seed=seed, clients=4)  # type: ignore[arg-type]

    async def client() -> None:
        try:
            async with await anysock.connect("server:7") as connection:
                await twenty_messages(connection)
        except (OSError, anysock.EndOfStream):
            return

    async def main() -> None:
        server = hosts.serve(drain_timeout=5)
        await anysock.sleep(0.001)
        tasks = [each.spawn_here(client()) for each in hosts.clients]
        await anysock.sleep(20)
        hosts.network.heal()
        while not all(task.done for task in tasks):
            await anysock.sleep(0.001)
        for task in tasks:
            task.result()
        await hosts.on(hosts.server, server.drain())

    hosts.run(main)
    return hosts


def test_the_same_seed_gives_the_same_trace():
    trace = rough_life().network.trace
    assert rough_life(seed=6).network.trace != trace
    assert same_in_another_process(trace, __name__, "rough_life().network.trace")


def test_those_that_have_happened_are_enough_to_repeat_it():
    plan = parse(EVERYTHING)
    hosts = rough_life(plan)
    assert hosts.network.faults is not None
    happened = hosts.network.faults.occurrences
    assert len(happened) > 10
    again = plan
    for name in plan.kinds:
        if name in happened:
            again = again.keeping(name, happened[name])
        elif not hosts.fired[name]:
            again = again.without(name)
    repeated = rough_life(again)
    assert repeated.network.trace == hosts.network.trace
    # And each can be left out.
    fewer = rough_life(plan.keeping("partial", happened["partial"][:1]))
    assert fewer.network.faults is not None
    assert fewer.network.faults.occurrences["partial"] == happened["partial"][:1]


def test_each_kind_is_told_that_has_fired():
    fired: dict[str, int] = {}
    for seed in range(6):
        fired |= rough_life(seed=seed).fired
    inert = parse(EVERYTHING).inert(fired)
    assert set(inert) <= {"loss", "duplicate", "reorder", "enobufs", "enfile", "emfile", "clock"}
    assert set(fired) <= set(FAULTS)


def test_clients_that_crash_are_no_fault_of_the_server():
    crashed = 0
    for seed in range(12):
        plan = Plan.draw(seed, clients=5, faults=parse("crash:every=300ms:power=0.5").kinds)
        outcome = run_history(Case("echo"), plan)
        assert outcome.finding is None, (seed, outcome.finding)
        crashed += outcome.fired["crash"]
    assert crashed > 3
