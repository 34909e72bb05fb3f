"""Tests of many histories: `sim.histories`, called by hand and by pytest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

import anysock
from anysock import sim
from anysock.sim import replay

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The files of failing histories are written below the current directory."""
    monkeypatch.chdir(tmp_path)
    for variable in ("SEED", "HISTORIES", "REPLAY"):
        monkeypatch.delenv(f"ANYSOCK_SIM_{variable}", raising=False)


async def talk(address, number=10):
    async with await anysock.connect(address) as connection:
        for each in range(number):
            line = b"%d\n" % each
            await connection.send_all(line)
            assert await connection.recv_line() == line


def test_each_history_has_a_world_of_its_own_with_the_next_seed():
    seen = []

    @sim.histories(5, faults="none")
    async def test(world):
        seen.append((world.seed, world.now))

    assert test() is None
    assert [seed for seed, _ in seen] == [0, 1, 2, 3, 4]
    assert all(now < 0.001 for _, now in seen)


def test_the_environment_says_which_histories(monkeypatch):
    seen = []

    @sim.histories(5, faults="none")
    async def test(world):
        seen.append(world.seed)

    monkeypatch.setenv("ANYSOCK_SIM_SEED", "7")
    test()
    monkeypatch.delenv("ANYSOCK_SIM_SEED")
    monkeypatch.setenv("ANYSOCK_SIM_HISTORIES", "2")
    test()
    assert seen == [7, 0, 1]
    monkeypatch.setenv("ANYSOCK_SIM_HISTORIES", "many")
    with pytest.raises(anysock.UsageError, match="ANYSOCK_SIM_HISTORIES is 'many'"):
        test()


async def careless(connection):
    """Takes what comes for a whole line."""
    while data := await connection.recv():
        assert data.endswith(b"\n")
        await connection.send_all(data)


def careless_test(number=200, **options):
    @sim.histories(number, faults="rough", **options)
    async def test(world):
        server = world.host("server").serve(careless, bind="tcp://:7", **world.options)
        for host in world.clients:
            host.spawn(ignore_losses(talk("server:7")))
        await world.sleep(5)
        world.heal()
        await server.drain(1)

    return test


async def ignore_losses(coro):
    try:
        await coro
    except (OSError, anysock.EndOfStream, AssertionError):
        pass


def test_a_history_that_fails_is_made_smaller_written_to_a_file_and_repeated(monkeypatch):
    test = careless_test(clients=10, until=1000)
    with pytest.raises(sim.Failure) as caught:
        test()
    failure = caught.value
    assert failure.kind == "handler: AssertionError"
    assert failure.host == "server"
    [note] = failure.__notes__
    assert "made smaller in" in note
    assert ": 1 client; faults: " in note
    variable, _, path = failure.repeat.partition("=")
    assert (variable, Path(path).parent) == ("ANYSOCK_SIM_REPLAY", Path(".sim"))
    found = replay.Replay.read(Path(path))
    assert len(found.plan.faults) <= 2
    assert not found.plan.options
    assert found.finding.kind == failure.kind

    monkeypatch.setenv(variable, path)
    with pytest.raises(sim.Failure) as again:
        test()
    assert (again.value.what, again.value.at) == (failure.what, failure.at)
    assert again.value.story == failure.story

    # It is the file of another test, for others.
    @sim.histories(3, faults="none")
    async def other(world):
        seeds.append(world.seed)

    seeds: list[int] = []
    other()
    assert seeds == [0, 1, 2]


def test_what_depends_on_something_besides_the_seed_is_told():
    calls = []

    @sim.histories(5, faults="none")
    async def test(world):
        calls.append(1)
        assert len(calls) != 3

    with pytest.raises(sim.Failure) as caught:
        test()
    assert "did not fail when it was run again" in caught.value.__notes__[0]
    assert not Path(".sim").exists()


def test_a_file_that_cannot_be_written_hides_no_failure():
    Path(".sim").write_text("in the way")

    @sim.histories(5, faults="none")
    async def test(world):
        assert world.seed != 3

    with pytest.raises(sim.Failure) as caught:
        test()
    assert caught.value.repeat == "ANYSOCK_SIM_SEED=3"
    assert "can't write .sim" in caught.value.__notes__[-1]


def test_a_fault_that_was_asked_for_by_name_and_was_never_met_is_told():
    def test_with(faults, number=100):
        @sim.histories(number, faults=faults)
        async def test(world):
            world.host("server").serve("echo", bind="tcp://:7")
            await world.host("client").spawn(ignore_losses(talk("server:7", 1))).join()

        return test

    test_with("hostile", 100)()
    test_with("split,loss", 3)()
    with pytest.raises(AssertionError, match="never met: loss; what was tested"):
        test_with("calm,loss")()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sim.histories(3)(int),  # type: ignore[arg-type]
            "is for an `async def` test",
        ),
        (lambda: sim.histories(3)(talk), "talk with a world: it has no parameter `world`"),
        (
            lambda: sim.histories(talk),  # type: ignore[arg-type]
            r"takes a number of histories.*: @sim.histories\(1000\)",
        ),
        (lambda: sim.histories(3, faults="bad luck"), "there is no fault 'bad luck'"),
    ],
)
def test_what_makes_no_test_is_refused_in_one_line(make, message):
    with pytest.raises(anysock.UsageError, match=message):
        make()


def drawn_by_hypothesis(found):
    def test(plan):
        async def scenario(world):
            server = world.host("server").serve(careless, bind="tcp://:7", **world.options)
            for host in world.clients:
                host.spawn(ignore_losses(talk("server:7", 3)))
            await world.join()
            await server.drain(1)

        found.append(plan)
        sim.World(plan=plan).run(scenario)

    settings = hypothesis.settings(max_examples=30, database=None, deadline=None, derandomize=True)
    return settings(hypothesis.given(plan=sim.plans(clients=3, faults="split,short,merge"))(test))


def test_hypothesis_draws_plans_and_makes_them_smaller():
    found: list[Any] = []
    with pytest.raises(sim.Failure) as caught:
        drawn_by_hypothesis(found)()
    assert caught.value.kind == "handler: AssertionError"
    assert len(found[-1].clients) <= 2
    assert len(found[-1].faults) == 1


def test_a_scenario_draws_values_from_its_seed_or_by_hypothesis():
    async def scenario(world):
        numbers = strategies.integers(0, 10**9)
        return [world.draw(numbers) for _ in range(3)]

    first, again, other = (sim.World(seed).run(scenario) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 3

    @hypothesis.settings(max_examples=3, database=None, deadline=None)
    @hypothesis.given(data=strategies.data())
    def test(data):
        drawn.append(sim.World(draw=data.draw).run(scenario))

    drawn: list[Any] = []
    test()
    assert [0, 0, 0] in drawn

    async def assumes(world):
        raise hypothesis.errors.UnsatisfiedAssumption

    with pytest.raises(hypothesis.errors.UnsatisfiedAssumption):
        sim.World().run(assumes)


SOURCE = """
import unittest
import pytest
import anysock
from anysock import sim


@pytest.fixture
def limit():
    return 2


@pytest.mark.parametrize("handler", ["echo", "lines"])
@sim.histories(3, faults="calm")
async def test_parameters(handler, world, limit):
    server = world.host("server").serve(handler, max_connections=limit)
    async with await anysock.connect("server:8000") as connection:
        await connection.send_all(b"hello\\n")
        assert await connection.recv_line() == b"hello\\n"
    assert len(server.connections) <= limit


class TestInAClass:
    @sim.histories(3)
    async def test_method(self, world):
        assert isinstance(self, TestInAClass)


class Cases(unittest.TestCase):
    @sim.histories(3)
    async def test_case(self, world):
        self.assertEqual(world.seed, world.plan.seed)

    @sim.histories(3)
    async def test_skipped(self, world):
        self.skipTest("not now")


@sim.histories(3, faults="none")
async def test_that_fails(world):
    world.always("soon over", lambda: world.now < 1)
    await world.sleep(2)


@sim.histories(3)
async def test_on_the_real_machine(world):
    open(__file__)
"""


def test_pytest_and_unittest_run_such_tests_as_any_other(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(anysock.__file__).parents[1]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_it=SOURCE)
    options = ("-p", "no:cacheprovider", "-W", "error", "-rA", "--tb=short")
    result = pytester.runpytest_subprocess(*options, timeout=60)
    result.assert_outcomes(passed=4, failed=2, skipped=1)
    out = result.stdout.str()
    assert "Failure: always 'soon over': does not hold (after 2.0" in out
    assert "ANYSOCK_SIM_REPLAY=.sim/test_it.test_that_fails-0.json)" in out
    assert "seed 0, made smaller in" in out
    # Of our own frames, none is shown.
    assert not [
        line for line in out.splitlines() if line.startswith("/") and "anysock/sim/" in line
    ]
    assert "RealWorld: test_it.py:" in out
    assert "(In the simulated history of seed 0: test_it:test_on_the_real_machine.)" in out
    data = json.loads((pytester.path / ".sim/test_it.test_that_fails-0.json").read_text())
    assert data["finding"]["kind"] == "always soon over"
