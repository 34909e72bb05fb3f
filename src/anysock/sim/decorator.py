"""A test of many histories: `histories` makes one of a scenario."""

from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from anysock.engines.sim.fault_kinds import PRESETS
from anysock.engines.sim.faults import FaultPlan
from anysock.errors import StartError, UsageError, WrongType
from anysock.sim.asked import AskedFaults, faults_of
from anysock.sim.failure import Failure
from anysock.sim.finding import Finding
from anysock.sim.many import many
from anysock.sim.plan import Plan
from anysock.sim.replay import Replay, versions
from anysock.sim.shrink import shrink
from anysock.sim.tracing import hash_of_trace
from anysock.sim.world import UNTIL, World

#: Where the files of failing histories are written, below the current directory.
FOLDER = ".sim"

#: What such a file says of what was checked.
CHECK = "histories"

#: Environment variables: only the history of this seed; so many histories, in place of what the
#: test says; only the history in this file.
SEED = "ANYSOCK_SIM_SEED"
HISTORIES = "ANYSOCK_SIM_HISTORIES"
REPLAY = "ANYSOCK_SIM_REPLAY"

# In so many histories, a fault that was asked for by name is to strike at least once.
_MANY = 100

_Test: TypeAlias = Callable[..., Coroutine[Any, Any, object]]


def histories(
    number: int = 100,
    *,
    faults: AskedFaults = "hostile",
    clients: int = 0,
    options: Mapping[str, Any] | None = None,
    until: float = UNTIL,
    swarm: bool = True,
    real_world: str | Collection[str] = "refuse",
) -> Callable[[_Test], Callable[..., None]]:
    """Make a plain test, for pytest or unittest, of an ``async def test(world)``: it runs so many
    histories, each in a `World` of its own, of the seeds 0, 1, 2, …

    >>> @sim.histories(1000, faults="hostile", clients=20)
    ... async def test_echo(world):
    ...     server = world.host("server").serve("echo", bind="tcp://:7", **world.options)
    ...     for host in world.clients:
    ...         host.spawn(talk("server:7"))
    ...     await world.sleep(5)
    ...     world.heal()
    ...     await server.drain()

    Fixtures and parameters besides `world` work as ever; they are the same for all histories of
    the test. `faults`, `until` and `real_world` are those of `World`. With `swarm`, each history
    has each of the faults or not, for some hide others; and `World.options` are a few options of a
    server at random, with those of `options` as they are. `World.clients` are `clients` hosts.

    The first history that fails is made smaller, as long as it fails in the same way: fewer
    clients, fewer kinds of faults, fewer options. It is written to a file in ``.sim/``, and raised.

    ``ANYSOCK_SIM_SEED=7`` runs the history of that seed only, ``ANYSOCK_SIM_REPLAY=FILE`` that of
    a file, and ``ANYSOCK_SIM_HISTORIES=100000`` so many.
    """
    if not isinstance(number, int) or number < 1:
        raise WrongType("histories() takes a number of histories, from 1 up: @sim.histories(1000)")
    asked = faults_of(faults)

    def plan_of(seed: int) -> Plan:
        return Plan.draw(
            seed, clients=clients, faults=asked.kinds, options=options or {}, swarm=swarm
        )

    def decorate(test: _Test) -> Callable[..., None]:
        signature = _signature_without_world(test)

        @functools.wraps(test)
        def runs(*args: Any, **keywords: Any) -> None:
            __tracebackhide__ = True
            name = f"{test.__module__}:{test.__qualname__}"

            def run(plan: Plan) -> tuple[World, Failure | None]:
                __tracebackhide__ = True
                world = World(plan=plan, real_world=real_world)

                def scenario(world: World) -> Coroutine[Any, Any, object]:
                    return test(*args, world=world, **keywords)

                try:
                    world.run(scenario, until)
                except Failure as failure:
                    return world, failure
                except Exception as error:
                    error.add_note(f"(In the simulated history of seed {plan.seed}: {name}.)")
                    raise
                return world, None

            replayed = _replayed(name)
            if replayed is not None:
                failure = run(replayed)[1]
                if failure is not None:
                    failure.repeat = f"{REPLAY}={os.environ[REPLAY]}"
                    raise failure
                return
            fired: Counter[str] = Counter()
            seeds = _seeds(number)
            with many():
                for seed in seeds:
                    world, failure = run(plan_of(seed))
                    if failure is not None:
                        raise _smaller(failure, world.plan, run, name)
                    fired += world.fired
            if len(seeds) >= _MANY:
                _check_fired(faults, fired, len(seeds))

        runs.__signature__ = signature  # type: ignore[attr-defined]
        return runs

    return decorate


def _signature_without_world(test: _Test) -> inspect.Signature:
    """The parameters of `test` that are not ours. Raises `WrongType` for what is no such test."""
    name = getattr(test, "__qualname__", repr(test))
    if not inspect.iscoroutinefunction(test):
        raise WrongType(f"@sim.histories is for an `async def` test, and {name} is none")
    signature = inspect.signature(test)
    if "world" not in signature.parameters:
        raise WrongType(f"@sim.histories calls {name} with a world: it has no parameter `world`")
    return signature.replace(
        parameters=[each for each in signature.parameters.values() if each.name != "world"],
        return_annotation=None,
    )


def _seeds(number: int) -> range:
    seed = _number_in(SEED)
    if seed is not None:
        return range(seed, seed + 1)
    return range(_number_in(HISTORIES) or number)


def _number_in(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal():
        raise UsageError(f"{variable} is {text!r}: expected a number")
    return int(text)


def _replayed(name: str) -> Plan | None:
    """The plan of the file that is to be repeated, if it is of this test."""
    path = os.environ.get(REPLAY)
    if not path:
        return None
    replay = Replay.read(Path(path))
    return replay.plan if replay.handler == name else None


def _smaller(
    failure: Failure,
    plan: Plan,
    run: Callable[[Plan], tuple[World, Failure | None]],
    name: str,
) -> Failure:
    """The failure of a smaller plan that fails in the same way; its file is written."""
    # The last that failed in the same way is the smallest.
    kept: tuple[World, Failure] | None = None

    def fails(candidate: Plan) -> Finding | None:
        nonlocal kept
        world, found = run(candidate)
        if found is None:
            return None
        if found.kind == failure.kind:
            kept = world, found
        return found.finding

    shrunk = shrink(plan, failure.finding, fails)
    if kept is None:
        fails(plan)
    if kept is None:
        failure.add_note(
            "The same plan did not fail when it was run again: what the test does depends on "
            "something besides it, such as what an earlier history has left."
        )
        return failure
    world, smallest = kept
    smallest.add_note(
        f"seed {plan.seed}, made smaller in {shrunk.tries} tries: {_in_words(shrunk.plan)}"
    )
    file = f"{name.replace(':', '.').replace('<locals>.', '')}-{plan.seed}.json"
    path = Path(FOLDER, file)
    trace = hash_of_trace(world.network.trace)
    try:
        Replay(name, CHECK, shrunk.plan, smallest.finding, trace, versions()).write(path)
    except StartError as error:
        smallest.repeat = f"{SEED}={plan.seed}"
        smallest.add_note(str(error))
    else:
        smallest.repeat = f"{REPLAY}={path}"
    return smallest


def _in_words(plan: Plan) -> str:
    clients = len(plan.clients)
    parts = [f"{clients} client{'' if clients == 1 else 's'}"] if clients else []
    parts.append(f"faults: {FaultPlan(plan.faults)}" if plan.faults else "no faults")
    if plan.options:
        parts.append(
            f"options: {', '.join(f'{each}={plan.options[each]}' for each in plan.options)}"
        )
    return "; ".join(parts)


def _check_fired(faults: AskedFaults, fired: Mapping[str, int], number: int) -> None:
    """Raises AssertionError for a fault that was asked for by name, and was never met."""
    asked = faults_of(faults)
    names = set(asked.kinds)
    if isinstance(faults, str):
        names = {part.partition(":")[0].partition("=")[0].strip() for part in faults.split(",")}
    never = [each for each in asked.inert(fired) if each in names and each not in PRESETS]
    if never:
        raise AssertionError(
            f"in {number} histories, these faults were asked for and never met: "
            f"{', '.join(never)}; what was tested, was tested without them"
        )
