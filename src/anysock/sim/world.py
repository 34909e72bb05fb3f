"""A world: hosts, the network between them, and one history of it."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import anysock
from anysock.engines.running import engine_of_thread
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.faults import FaultPlan
from anysock.engines.sim.network import Network
from anysock.errors import UsageError
from anysock.sim import runaway
from anysock.sim.asked import AskedFaults, faults_of
from anysock.sim.current import world_is
from anysock.sim.drawing import draw_by_seed
from anysock.sim.guards import RealWorld, Watch
from anysock.sim.hosts import HostHandle
from anysock.sim.judging import Judge
from anysock.sim.links import LinkHandle
from anysock.sim.many import one_begins
from anysock.sim.plan import Plan
from anysock.sim.stand_ins import stand_ins
from anysock.sim.tasks import HostTask
from anysock.tasks import arguments

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

#: How long a scenario may take, in virtual seconds.
UNTIL = 60.0

#: The host on which the scenario runs.
SCENE = "scenario"


class World:
    """Hosts in a simulated network, with a virtual clock, and what happens there: one history.

    The same `seed`, with the same `faults`, gives the same history. They say what goes wrong:
    ``"none"``, ``"calm"``, ``"rough"`` or ``"hostile"``, or kinds of faults by name, as ``anysock
    sim --faults`` takes them. A `plan` says both, and more.

    `real_world` says what becomes of code that touches the real machine. It is refused
    (``"refuse"``), or let pass (``"allow"``; or some kinds of it, such as ``{"files", "signals"}``:
    see `anysock.sim.guards`). With ``"simulate"``, its clocks and random numbers, such as
    ``time.time()`` and ``random.random()``, are those of the history, and the rest is refused.

    >>> import anysock
    >>> from anysock import sim
    >>> async def scenario(world):
    ...     world.host("server").serve("echo", bind="tcp://:7")
    ...     async with await anysock.connect("server:7") as connection:
    ...         await connection.send_all(b"hello")
    ...         return await connection.recv()
    >>> sim.World(seed=7).run(scenario)
    b'hello'
    """

    def __init__(
        self,
        seed: int = 0,
        plan: Plan | None = None,
        *,
        faults: AskedFaults = "calm",
        real_world: str | Collection[str] = "refuse",
        draw: Callable[[Any], Any] | None = None,
    ) -> None:
        if plan is None:
            asked = faults_of(faults)
            plan = Plan(seed, faults=asked.kinds, only=asked.only)
        #: All that decides the history, but for the scenario itself.
        self.plan = plan
        #: What chance comes from.
        self.seed = plan.seed
        network = Network(plan.seed, FaultPlan(plan.faults, plan.only))
        #: The simulated network.
        #:
        #: :meta private:
        self.network: Network = network
        #: Which places of `sim.sometimes` are on.
        #:
        #: :meta private:
        self.places: dict[str, bool] = {}
        self._draw = draw
        self._draws = 0
        self._watch = Watch(real_world)
        self._judge = Judge(network, self._watch, self._waiting)
        network.on_stuck = self._judge.stuck
        self._hosts: dict[str, HostHandle] = {}
        # Where the scenario itself runs.
        self._scene = self._hosts[SCENE] = HostHandle(self, SCENE)
        if self._watch.simulates:
            chance = self.network.chance.stream("real world")
            self._watch.stand_ins = stand_ins(
                lambda: engine_of_thread() or self._scene.engine, chance
            )
        self._begun = False

    # -- time and chance -------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.network.now

    @property
    def chance(self) -> Chance:
        """The streams of chance."""
        return self.network.chance

    @property
    def random(self) -> random.Random:
        """Chance for the scenario, which comes of the seed."""
        return self.network.chance.stream("scenario")

    @property
    def fired(self) -> Counter[str]:
        """How often each kind of fault has changed something."""
        return self.network.chance.fired

    def draw(self, strategy: SearchStrategy[T]) -> T:
        """A value of a strategy of Hypothesis: from the seed of this world, or by the function
        `draw` that it was made with, such as that of ``hypothesis.strategies.data()``."""
        if self._draw is not None:
            value: T = self._draw(strategy)
            return value
        self._draws += 1
        seed = self.chance.stream(f"draw/{self._draws}").getrandbits(64)
        drawn: T = draw_by_seed(strategy, seed)
        return drawn

    async def sleep(self, seconds: float) -> None:
        """Let so many virtual seconds pass."""
        await anysock.sleep(seconds)

    def after(self, seconds: float, func: Callable[[], object]) -> None:
        """Call `func()` in so many virtual seconds. One that fails makes the history fail."""
        arguments.check_seconds(seconds, "after")
        arguments.check_function(func, "after")

        def call() -> None:
            judge = self._judge
            if judge.over:
                return
            try:
                self._scene.call(func)
            except RealWorld:
                raise
            except Exception as error:  # noqa: BLE001
                judge.stop(judge.raised(f"after({seconds:g}, …)", error))

        self.network.after(seconds, call)

    # -- hosts and links -------------------------------------------------------------------------

    def host(self, name: str) -> HostHandle:
        """The host of that name, which is made if there is none yet."""
        host = self._hosts.get(name)
        if host is None:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "localhost":
                raise UsageError(f'{name!r} can\'t be the name of a host, such as "client3"')
            host = self._hosts[name] = HostHandle(self, name)
            host.host.process = host
        return host

    def hosts(self, name: str, number: int) -> list[HostHandle]:
        """So many hosts: ``hosts("client", 3)`` are client0, client1 and client2."""
        return [self.host(f"{name}{each}") for each in range(number)]

    @property
    def clients(self) -> list[HostHandle]:
        """The hosts of the clients of the plan: client0, client1, … Those that were left out, when
        a failing history was made smaller, are missing."""
        return [self.host(f"client{each.number}") for each in self.plan.clients]

    @property
    def options(self) -> dict[str, Any]:
        """The options of a server that the plan has: ``host.serve(handler, **world.options)``."""
        return dict(self.plan.options)

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> HostTask[T]:
        """Run `coro` as a task beside the scenario, on the host of that."""
        return self._scene.spawn(coro, name)

    async def join(self) -> None:
        """Wait until all tasks have ended that were spawned on hosts; servers go on."""
        while left := [
            task
            for host in self._hosts.values()
            for task in host.tasks
            if not (task.done or task.background)
        ]:
            for task in left:
                await task.ended()

    def link(self, one: str | HostHandle, other: str | HostHandle) -> LinkHandle:
        """What is between two hosts."""
        return LinkHandle(self.network, self._found(one), self._found(other))

    def partition(
        self, one: str | HostHandle, other: str | HostHandle, *, one_way: bool = False
    ) -> None:
        """Let nothing through any more from `one` to `other`, and, unless `one_way`, back. What TCP
        sends meanwhile it sends again, after `heal`, when it is due to try."""
        self.link(one, other).part(one_way=one_way)

    def heal(
        self, one: str | HostHandle | None = None, other: str | HostHandle | None = None
    ) -> None:
        """Let everything through again between two hosts. Without any, between all, and from now
        on nothing goes wrong any more but what the scenario does: what does not come to an end
        then, never will."""
        if one is not None and other is not None:
            self.link(one, other).heal()
        elif one is not None or other is not None:
            raise UsageError("heal() takes two hosts, or none for all of them")
        else:
            self.network.note("network", "heals")
            self.network.heal()

    def _found(self, host: str | HostHandle) -> HostHandle:
        name = host if isinstance(host, str) else host.name
        found = self._hosts.get(name)
        if found is None:
            raise UsageError(f"there is no host {name!r}; there are {', '.join(self._hosts)}")
        return found

    # -- what must hold --------------------------------------------------------------------------

    def always(self, name: str, holds: Callable[[], object]) -> None:
        """From now on, `holds()` must be true after each step of the history: a host's turn, or
        whatever else happens. Where it is false, or raises, the history has failed."""
        arguments.check_function(holds, "always")
        self._judge.always(name, holds)

    def eventually(
        self, name: str, holds: Callable[[], object], within: float | None = None
    ) -> None:
        """`holds()` must become true `within` so many virtual seconds; None: before the end."""
        arguments.check_function(holds, "eventually")
        arguments.check_seconds(within, "eventually", none=True)
        if within is None:
            self._judge.eventually(name, holds, None, "eventually")
            return
        by = self.now + within
        self._judge.eventually(name, holds, by, f"eventually, within {within:g} s,")
        self.network.at(by, lambda: None)  # so that there is a step then

    # -- running ---------------------------------------------------------------------------------

    def run(self, scenario: Callable[[World], Coroutine[Any, Any, T]], until: float = UNTIL) -> T:
        """Run ``scenario(world)`` to its end, and return its result. When it ends, so does the
        history: what still runs then is given up.

        Raises `Failure` for what is wrong with it: a condition that did not hold, what the
        scenario, a handler or a task that nobody joined has raised, the earliest of them; a
        `Deadlock` when nothing can happen any more, or the scenario takes longer than `until`,
        in virtual seconds. Raises `RealWorld` when code has touched the real machine.
        """
        __tracebackhide__ = True
        if self._begun:
            raise UsageError("a world has one history, and this one has had it: make another")
        arguments.check_seconds(until, "run")
        coro = arguments.started(scenario, (self,), "run")
        self._begun = True
        self._judge.begin(until)
        one_begins()
        try:
            with world_is(self), runaway.ended(self._judge), self._watch.on():
                try:
                    return self._live(coro)
                finally:
                    self._judge.over = True
                    for host in self._hosts.values():
                        host.finish()
        finally:
            coro.close()  # where it has not even begun

    def _live(self, coro: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True
        raised: Exception | None = None
        result: Any = None
        try:
            result = self._scene.engine.run(coro)
        except Exception as error:  # noqa: BLE001
            raised = error
        except runaway.Runaway:
            pass  # the judge knows
        try:
            self._judge.end(raised)
        except runaway.Runaway:
            self._judge.end(None)
        return result  # type: ignore[no-any-return]

    def failed(
        self, host: str, what: str, error: Exception, stands: Callable[[], bool] = lambda: True
    ) -> None:
        """Something on a host has raised `error`: the history has failed, if that still
        `stands()` when it ends.

        :meta private:
        """
        self._judge.add(host, what, error, stands)

    def _waiting(self) -> list[tuple[str, str, Any]]:
        return [
            (host.name, task.name, task.coro)
            for host in self._hosts.values()
            for task in host.waiting()
        ]


# A name of DNS which is no address.
_NAME = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)
