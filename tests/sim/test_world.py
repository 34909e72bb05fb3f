"""Histories of a world: what a scenario may do, and what makes it fail."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

import anysock
from anysock import sim
from anysock.sim import runaway


def run(scenario, seed=1, **options):
    return sim.World(seed, faults="none").run(scenario, **options)


async def ask(address, data):
    """Send a line from here, and return the answer."""
    async with await anysock.connect(address) as connection:
        await connection.send_all(data)
        return await connection.recv_line()


async def stay(address):
    """Connect from here, and wait for the end."""
    async with await anysock.connect(address) as connection:
        return await connection.recv()


# -- hosts -----------------------------------------------------------------------------------------


def test_many_clients_on_hosts_of_their_own_are_served_by_the_real_server():
    async def scenario(world):
        server = world.host("server").serve("echo", bind="tcp://:7")
        assert isinstance(server, anysock.Server)
        tasks = [
            host.spawn(ask("server:7", b"%s\n" % host.name.encode()))
            for host in world.hosts("client", 3)
        ]
        answers = [await task.join() for task in tasks]
        assert await server.drain() == 0
        return answers, server.counters.closed[anysock.CloseReason.DONE]

    assert run(scenario) == ([b"client0\n", b"client1\n", b"client2\n"], 3)


def test_a_history_can_be_repeated_and_its_seed_is_what_decides_it():
    def trace(seed):
        async def scenario(world):
            world.host("server").serve("echo", bind="tcp://:7")
            for host in world.hosts("client", 5):
                host.spawn(ask("server:7", b"x" * world.random.randrange(1, 9) + b"\n"))
            await world.join()

        world = sim.World(seed)
        world.run(scenario)
        return world.network.trace

    assert trace(1) == trace(1) != trace(2)


def test_time_is_virtual():
    async def scenario(world):
        called = []
        world.after(3000, lambda: called.append(world.now))
        await world.sleep(3600)
        assert called == [pytest.approx(3000)]
        return world.now

    assert run(scenario, until=4000) == pytest.approx(3600, abs=0.01)


def test_a_handler_that_measures_reads_the_virtual_clock():
    async def measures(connection):
        began = anysock.now()
        await connection.recv()
        await connection.send_all(b"%.1f\n" % (anysock.now() - began))

    async def scenario(world):
        world.host("server").serve(measures, bind="tcp://:7", idle_timeout=0, min_rate=0)
        before = anysock.now(), world.now
        async with await anysock.connect("server:7") as client:
            await world.sleep(3600)
            passed = anysock.now() - before[0]
            assert passed == pytest.approx(world.now - before[1], abs=0.001)
            await client.send_all(b"x")
            return await client.recv_line()

    assert run(scenario, until=4000) == b"3600.0\n"


@pytest.mark.parametrize("does", ["recv", "send"])
def test_who_uses_a_connection_of_another_host_is_told(does):
    async def use(connection):
        await (connection.recv() if does == "recv" else connection.send_all(b"x"))

    async def scenario(world):
        world.host("server").serve("echo", bind="tcp://:7")
        mine, other = world.hosts("client", 2)
        connection = await mine.spawn(anysock.connect("server:7")).join()
        with pytest.raises(
            anysock.UsageError,
            match="belongs to the host 'client0', and the task that uses it runs on 'client1'",
        ):
            await other.spawn(use(connection)).join()
        await mine.spawn(connection.close()).join()

    run(scenario)


def test_what_belongs_to_a_host_is_called_as_by_the_host():
    async def scenario(world):
        host = world.host("server")
        server = host.serve("echo", bind="tcp://:7")
        task = world.host("client").spawn(stay("server:7"))
        await world.sleep(1)
        [connection] = server.connections
        host.call(connection.abort)
        with pytest.raises(ConnectionResetError):
            await task.join()
        assert host.call(lambda: len(host.host.sockets)) == len(host.host.sockets)

    run(scenario)


@pytest.mark.parametrize("name", ["localhost", "10.0.0.1", "a:7", "", "b c"])
def test_a_host_has_a_name_that_can_be_looked_up(name):
    with pytest.raises(anysock.UsageError, match="can't be the name of a host"):
        sim.World().host(name)


# -- failures --------------------------------------------------------------------------------------


def failure(scenario, kind=sim.Failure, **options):
    with pytest.raises(kind) as caught:
        run(scenario, **options)
    return caught.value


def test_what_always_holds_is_checked_at_each_step_and_tells_when_and_what():
    async def scenario(world):
        server = world.host("server").serve("echo", bind="tcp://:7")
        world.always("at most 2", lambda: len(server.connections) <= 2)
        for host in world.hosts("client", 3):
            host.spawn(stay("server:7"))
        await world.join()

    found = failure(scenario)
    assert found.what == "always 'at most 2': does not hold"
    assert 0 < found.at < 0.02
    assert len([line for line in found.story if " serves " in line]) == 3
    assert "sim.World(seed=1)" in str(found)


def test_a_condition_that_raises_does_not_hold():
    async def scenario(world):
        world.always("divided", lambda: 1 / 0)
        await world.sleep(1)

    found = failure(scenario)
    assert found.what == "always 'divided': raised ZeroDivisionError: division by zero"
    assert isinstance(found.__cause__, ZeroDivisionError)


def test_what_is_to_come_true_has_until_its_time_or_the_end():
    async def scenario(world):
        begun = world.now
        world.eventually("a second", lambda: world.now > begun + 1, within=2)
        world.eventually("at last", lambda: world.now > begun + 2.5)
        await world.sleep(3)

    run(scenario)

    async def late(world):
        world.eventually("too late", lambda: world.now > 3, within=2)
        await world.sleep(10)

    found = failure(late)
    assert found.what == "eventually, within 2 s, 'too late': has not come true"
    assert found.at == pytest.approx(2, abs=0.001)

    async def never(world):
        world.eventually("never", lambda: False)
        await world.sleep(1)

    assert failure(never).what == "eventually 'never': has not come true"


def test_the_earliest_of_what_has_failed_is_told():
    async def fail(seconds, error):
        await anysock.sleep(seconds)
        raise error

    async def scenario(world):
        world.host("b").spawn(fail(2, ValueError("second")))
        world.host("a").spawn(fail(1, KeyError("first")), "guilty")
        await world.sleep(3)
        raise AssertionError("third")

    found = failure(scenario)
    assert found.what == "task 'guilty' raised KeyError: 'first'"
    assert (found.host, round(found.at, 2), found.kind) == ("a", 1.0, "task: KeyError")
    assert isinstance(found.__cause__, KeyError)
    assert found.__notes__[0].startswith("later: scenario raised AssertionError: third")


def test_who_joins_a_task_answers_for_its_failure():
    async def fail():
        raise ValueError("mine")

    async def scenario(world):
        task = world.host("a").spawn(fail())
        await world.sleep(1)
        with pytest.raises(ValueError, match="mine"):
            await task.join()

    run(scenario)


def test_tasks_that_a_host_itself_has_spawned_are_watched_too():
    async def spawns():
        async def fails():
            raise ValueError("a task of a task")

        anysock.spawn(fails(), "inner")
        await anysock.sleep(1)

    async def scenario(world):
        await world.host("a").spawn(spawns()).join()

    assert failure(scenario).what == "task 'inner' raised ValueError: a task of a task"


def test_a_handler_that_fails_makes_the_history_fail_unless_the_test_expects_it():
    async def fail(connection):
        raise ValueError("boom")

    async def scenario(world, expects):
        server = world.host("server").serve(fail)
        assert await world.host("client").spawn(ask("server:8000", b"x")).join() == b""
        if expects:
            assert isinstance(server.failures.pop(), ValueError)

    found = failure(lambda world: scenario(world, False))
    assert (found.what, found.host) == ("handler raised ValueError: boom", "server")
    run(lambda world: scenario(world, True))


def test_when_nothing_can_ever_happen_again_it_is_told_who_waits_where():
    async def waits_for_nobody():
        await anysock.Event().wait()  # here

    async def scenario(world):
        await world.host("a").spawn(waits_for_nobody(), "patient").join()

    found = failure(scenario, sim.Deadlock)
    line = waits_for_nobody.__code__.co_firstlineno + 1
    assert found.what.startswith("nothing can ever happen again; these wait: scenario: main at ")
    assert f"a: patient at test_world.py:{line}, waits_for_nobody()" in found.what


@pytest.mark.parametrize("serves", [True, False])
def test_a_scenario_that_takes_too_long_is_ended(serves):
    async def scenario(world):
        if serves:
            world.host("server").serve("echo")
        while True:
            await world.sleep(1)

    found = failure(scenario, sim.Deadlock, until=5)
    assert found.what.startswith(
        "the scenario has not ended within 5 s; these wait: scenario: main"
    )
    assert 5 <= found.at < 6.1


def test_what_code_does_on_the_real_machine_ends_the_history_even_if_it_is_swallowed():
    async def handler(connection):
        try:
            open("/dev/null")
        except Exception:  # noqa: BLE001
            await connection.send_all(b"swallowed\n")

    async def scenario(world):
        world.host("server").serve(handler)
        await world.host("client").spawn(ask("server:8000", b"x")).join()
        await world.sleep(1)

    with pytest.raises(sim.RealWorld, match=r"test_world.py:\d+: open\(\)"):
        run(scenario)


@pytest.mark.parametrize("place", ["scenario", "task", "handler", "condition"])
def test_a_step_that_never_ends_is_ended(place, monkeypatch):
    monkeypatch.setattr(runaway, "SECONDS", 0.05)

    def spin():
        while True:
            try:
                sum(range(100))  # here
            except Exception:  # noqa: BLE001
                pass

    async def spins(*_):
        spin()

    async def scenario(world):
        host = world.host("server")
        if place == "scenario":
            spin()
        elif place == "task":
            host.spawn(spins())
        elif place == "condition":
            world.always("spun", spin)
        else:
            host.serve(spins)
            host.spawn(ask("localhost:8000", b"x"))
        await world.sleep(1)

    found = failure(scenario)
    line = spin.__code__.co_firstlineno
    assert re.fullmatch(
        rf"a step has not ended within 0.05 seconds .*: it was at test_world.py:"
        rf"({line + 1}|{line + 2}|{line + 3}), spin\(\)",
        found.what,
    )
    assert found.kind == "runaway"


def test_a_world_has_one_history_and_none_within_another():
    world = sim.World()

    async def scenario(world):
        with pytest.raises(anysock.UsageError, match="within another"):
            sim.World().run(scenario)

    world.run(scenario)
    with pytest.raises(anysock.UsageError, match="has had it"):
        world.run(scenario)


# -- what may happen to a host ---------------------------------------------------------------------


def test_a_crash_runs_no_finally_before_the_history_is_over_and_peers_see_the_end():
    done = []

    async def waits(connection):
        try:
            await connection.recv()
            await connection.recv()
        finally:
            done.append(connection.peer)

    async def client():
        async with await anysock.connect("server:8000") as connection:
            await connection.send_all(b"x")
            return await connection.recv()

    async def scenario(world):
        host = world.host("server")
        server = host.serve(waits)
        task = world.host("client").spawn(client())
        [serving] = host.tasks
        await world.sleep(1)
        host.crash()
        assert await task.join() == b""
        with pytest.raises(sim.Crashed):
            await serving.join()
        with pytest.raises(sim.Crashed):
            await host.spawn(client()).join()
        with pytest.raises(sim.Crashed):
            await server.drain()
        with pytest.raises(ConnectionRefusedError):
            await world.host("client").spawn(client()).join()
        assert not done
        host.restart()
        assert host.server is not server
        with pytest.raises(sim.Crashed):
            await server.drain()
        again = world.host("client").spawn(client())
        await world.sleep(1)
        await host.server.drain()
        return await again.join()

    assert run(scenario) == b""
    assert len(done) == 2


def test_a_host_that_is_stalled_does_nothing_until_it_goes_on():
    async def scenario(world):
        world.host("server").serve("echo")
        await world.sleep(1)
        world.host("server").stall(5)
        began = world.now
        assert await world.host("client").spawn(ask("server:8000", b"x\n")).join() == b"x\n"
        return world.now - began

    assert run(scenario) == pytest.approx(5, abs=0.1)


def test_a_signal_drains_a_server_a_second_one_ends_it_and_others_end_a_process():
    async def stays(connection):
        await anysock.sleep(100)

    async def scenario(world):
        host = world.host("server")
        server = host.serve(stays, drain_timeout=50)
        world.host("client").spawn(stay("server:8000"))
        await world.sleep(1)
        host.signal(signal.SIGTERM)
        await world.sleep(1)
        assert server.ending
        assert host.alive
        host.signal(signal.SIGTERM)
        await world.sleep(1)
        assert not host.alive
        await world.join()
        other = world.host("other")
        other.spawn(anysock.sleep(1000))
        other.signal(signal.SIGWINCH)
        assert other.alive
        other.signal(signal.SIGUSR1)
        assert not other.alive

    run(scenario)


def test_wall_clocks_may_jump_and_descriptors_may_be_few():
    async def read_clock():
        from anysock.engines.current import current_engine

        return current_engine().time()

    async def scenario(world):
        host = world.host("server")
        before = await host.spawn(read_clock()).join()
        host.clock_jump(-3600)
        assert await host.spawn(read_clock()).join() - before == pytest.approx(-3600, abs=1)
        host.limit_descriptors(0)
        with pytest.raises(OSError, match="Too many open files"):
            await host.spawn(ask("server:8000", b"x")).join()

    run(scenario)


def test_what_is_partitioned_waits_until_it_is_healed():
    async def scenario(world):
        world.host("server").serve("echo")
        task = world.host("client").spawn(ask("server:8000", b"x\n"))
        world.partition("client", "server")
        await world.sleep(10)
        assert not task.done
        world.heal()
        return await task.join()

    assert run(scenario) == b"x\n"


def test_who_speaks_to_a_machine_without_power_hears_nothing_and_a_reset_once_it_is_back():
    async def client(connection, seconds):
        await anysock.sleep(seconds)
        await connection.send_all(b"x")
        return await connection.recv()

    async def scenario(world):
        server = world.host("server")
        server.serve("echo")

        async def connects():
            connections = [await anysock.connect("server:8000") for _ in range(3)]
            async with connections[0], connections[1], connections[2]:
                tasks = [
                    anysock.spawn(client(each, seconds))
                    for each, seconds in zip(connections, (0, 2, 20), strict=True)
                ]
                answers = []
                for task in tasks:
                    try:
                        answers.append((await task.join(), world.now))
                    except ConnectionResetError:
                        answers.append((None, world.now))
                return answers

        task = world.host("client").spawn(connects())
        world.after(1, lambda: server.crash(power=True))
        world.after(10, server.restart)
        return await task.join()

    answers = run(scenario)
    assert [answer for answer, _ in answers] == [b"x", None, None]
    assert answers[0][1] < 1
    assert 10 < answers[1][1] < 20 < answers[2][1] < 21


def test_a_link_is_slow_loses_packets_holds_them_and_resets():
    async def scenario(world):
        world.host("server").serve("echo")
        world.host("client")
        link = world.link("client", "server")
        link.latency = 0.5
        took = []

        async def talks():
            async with await anysock.connect("server:8000") as connection:
                for _ in range(10):
                    began = world.now
                    await connection.send_all(b"x")
                    await connection.recv()
                    took.append(world.now - began)

        task = world.host("client").spawn(talks())
        world.after(4.2, link.hold)
        world.after(14.2, link.release)
        world.after(15.7, link.reset)
        with pytest.raises(ConnectionResetError):
            await task.join()
        link.latency, link.drop = 0, 0.5
        await world.host("client").spawn(talks()).join()
        return took

    took = run(scenario)
    slow, lossy = took[:-10], took[-10:]
    assert slow == pytest.approx([1, 1, 1, 11.2], abs=0.1)
    assert {round(each, 1) for each in lossy} <= {0.0, 0.2, 0.4}
    assert len({round(each, 1) for each in lossy}) > 1


def test_faults_strike_until_all_is_healed_and_are_counted():
    async def talks():
        async with await anysock.connect("server:8000") as connection:
            for number in range(50):
                await connection.send_all(b"%d\n" % number)
                assert await connection.recv_line() == b"%d\n" % number

    async def scenario(world):
        world.host("server").serve("echo")
        await world.host("client").spawn(talks()).join()
        assert world.fired["split"] or world.fired["short"]
        world.heal()
        fired = dict(world.fired)
        await world.host("client").spawn(talks()).join()
        assert world.fired == fired

    sim.World(3, faults="split=1,short=1").run(scenario)


def test_a_fault_crashes_hosts_and_starts_them_again():
    async def scenario(world):
        host = world.host("server")
        host.serve("echo")
        answers = []
        for _ in range(30):
            await world.sleep(1)
            try:
                answers.append(await world.host("client").spawn(ask("server:8000", b"x\n")).join())
            except (OSError, sim.Crashed):
                answers.append(None)
        told = [entry[2] for entry in world.network.trace if entry[1] == "server"]
        crashes = told.count("crashes") + told.count("loses power")
        assert crashes == told.count("restarts") >= 1
        return answers[-1]

    world = sim.World(2, faults={"crash": {"every": 2, "lasts": 1, "times": 3}})
    assert world.run(scenario) == b"x\n"
    assert world.fired["crash"] >= 2


# -- sometimes -------------------------------------------------------------------------------------


def test_sometimes_is_false_outside_and_comes_of_the_seed_within():
    assert not sim.sometimes("rare")

    def drawn(seed):
        async def scenario(world):
            return [sim.sometimes("rare", 0.5) for _ in range(8)], world.fired["sometimes/rare"]

        return run(scenario, seed)

    found = [drawn(seed) for seed in range(40)]
    assert found == [drawn(seed) for seed in range(40)]
    assert all(sum(each) == count for each, count in found)
    on = [each for each, count in found if count]
    assert 4 <= len(on) <= 18
    assert len({tuple(each) for each in on}) > 2


def test_a_program_that_asks_sometimes_imports_no_simulation():
    program = "import sys; from anysock import sim; sim.sometimes('x'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    imported = set(done.stdout.split())
    assert "anysock.sim.sometimes" in imported
    assert not imported & {"anysock.sim.world", "anysock.engines.sim", "hypothesis"}
