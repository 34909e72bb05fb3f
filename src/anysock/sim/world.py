"""A world: hosts, the network between them, and one history of it."""

from __future__ import annotations

import random
import unittest
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple, NoReturn, TypeVar

import anysock
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.network import Network
from anysock.errors import UsageError
from anysock.sim.checks import Broken, Checks
from anysock.sim.current import world_is
from anysock.sim.failure import LAST_LINES, Deadlock, Failure, told
from anysock.sim.guards import RealWorld, Watch
from anysock.sim.hosts import HostHandle
from anysock.sim.tasks import HostTask
from anysock.sim.waiting import in_words
from anysock.tasks import arguments

T = TypeVar("T")

#: How long a scenario may take, in virtual seconds.
UNTIL = 60.0


class World:
    """Hosts in a simulated network, with a virtual clock, and what happens there: one history.

    The same `seed` gives the same history. `faults` says which kinds of faults there are:
    ``"calm"``, ``"rough"`` or ``"hostile"``, or kinds by name, as ``anysock sim --faults`` takes
    them. `real_world` says what becomes of code that touches the real machine: it is refused
    (``"refuse"``), or let pass (``"allow"``, or some kinds of it; see `anysock.sim.guards`).

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
        *,
        real_world: str | Collection[str] = "refuse",
    ) -> None:
        self.seed = seed
        #: The simulated network.
        #:
        #: :meta private:
        self.network: Network = _Network(seed, self)
        #: Which places of `sim.sometimes` are on.
        #:
        #: :meta private:
        self.places: dict[str, bool] = {}
        self._watch = Watch(real_world)
        self._checks = Checks()
        self._hosts: dict[str, HostHandle] = {}
        # Where the scenario itself runs.
        self._scene = HostHandle(self, "scenario")
        self._hosts[self._scene.name] = self._scene
        self._wrong: list[_Wrong] = []
        self._until = UNTIL
        self._begun = self._over = False

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

    async def sleep(self, seconds: float) -> None:
        """Let so many virtual seconds pass."""
        await anysock.sleep(seconds)

    def after(self, seconds: float, func: Callable[[], object]) -> None:
        """Call `func()` in so many virtual seconds. One that fails makes the history fail."""
        arguments.check_seconds(seconds, "after")
        arguments.check_function(func, "after")

        def call() -> None:
            if self._over:
                return
            try:
                self._scene.run_there(func)
            except RealWorld:
                raise
            except Exception as error:  # noqa: BLE001
                self._stop(self._raised(f"after({seconds:g}, …)", error))

        self.network.after(seconds, call)

    # -- hosts and links -------------------------------------------------------------------------

    def host(self, name: str) -> HostHandle:
        """The host of that name, which is made if there is none yet."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = HostHandle(self, name)
        return host

    def hosts(self, name: str, number: int) -> list[HostHandle]:
        """So many hosts: ``hosts("client", 3)`` are client0, client1 and client2."""
        return [self.host(f"{name}{each}") for each in range(number)]

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> HostTask[T]:
        """Run `coro` as a task beside the scenario, on the host of that."""
        return self._scene.spawn(coro, name)

    async def join(self) -> None:
        """Wait until all tasks have ended that were spawned on hosts; servers go on."""
        while left := [
            task
            for host in self._hosts.values()
            for task in host.tasks
            if not task.done and task.name != "server"
        ]:
            for task in left:
                await task.ended()

    def partition(
        self, one: str | HostHandle, other: str | HostHandle, *, one_way: bool = False
    ) -> None:
        """Let nothing through any more from `one` to `other`, and, unless `one_way`, back. What is
        on its way is kept, and goes on after `heal`."""
        self.network.note("network", "parts", self._host(one).name, self._host(other).name)
        for link in self._links(one, other, one_way):
            link.hold()

    def heal(
        self, one: str | HostHandle | None = None, other: str | HostHandle | None = None
    ) -> None:
        """Undo `partition` between two hosts; without any, between all."""
        self.network.note("network", "heals")
        names = list(self._hosts)
        pairs = (
            [(a, b) for a in names for b in names if a < b]
            if one is None or other is None
            else [(one, other)]
        )
        for a, b in pairs:
            for link in self._links(a, b, False):
                link.release()

    def _host(self, host: str | HostHandle) -> HostHandle:
        name = host if isinstance(host, str) else host.name
        found = self._hosts.get(name)
        if found is None:
            raise UsageError(f"there is no host {name!r}; there are {', '.join(self._hosts)}")
        return found

    def _links(self, one: str | HostHandle, other: str | HostHandle, one_way: bool) -> list[Any]:
        a, b = self._host(one).host, self._host(other).host
        there = self.network.link(a, b)
        return [there] if one_way else [there, self.network.link(b, a)]

    # -- what must hold --------------------------------------------------------------------------

    def always(self, name: str, holds: Callable[[], object]) -> None:
        """From now on, `holds()` must be true after each step of the history: a host's turn, or
        whatever else happens. Where it is false, or raises, the history has failed."""
        arguments.check_function(holds, "always")
        self._checks.always(name, holds)

    def eventually(
        self, name: str, holds: Callable[[], object], within: float | None = None
    ) -> None:
        """`holds()` must become true `within` so many virtual seconds; None: before the end."""
        arguments.check_function(holds, "eventually")
        arguments.check_seconds(within, "eventually", none=True)
        if within is None:
            self._checks.eventually(name, holds, None, "eventually")
            return
        by = self.now + within
        self._checks.eventually(name, holds, by, f"eventually, within {within:g} s,")
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
        if self._begun:
            raise UsageError("a world has one history, and this one has had it: make another")
        coro = arguments.started(scenario, (self,), "run")
        self._begun, self._until = True, until
        try:
            with world_is(self), self._watch.on():
                try:
                    return self._live(coro)
                finally:
                    self._over = True
                    for host in self._hosts.values():
                        host.finish()
        finally:
            coro.close()  # where it has not even begun

    def _live(self, coro: Coroutine[Any, Any, T]) -> T:
        self.network.on_step = self._step
        try:
            result: T = self._scene.engine.run(coro)
        except Exception as error:
            if _is_no_failure(error):
                raise
            if not isinstance(error, Failure):
                error = self._raised("the scenario", error)
            self._end(error)
            raise  # (not reached)
        broken = self._checks.at_the_end(self.now)
        self._end(None if broken is None else self._broken(broken))
        return result

    def _end(self, last: Exception | None) -> None:
        """Raise the first that was wrong; `last` comes after all others."""
        self._over = True
        if self._watch.refused is not None:
            raise self._watch.refused
        found = [each for each in self._wrong if each.stands()]
        first = self._raised(found[0].what, found[0].error, found[0]) if found else last
        if first is None:
            return
        if first is not last and last is not None:
            first.add_note(f"later: {str(last).splitlines()[0]}")
        raise first

    def _step(self) -> None:
        """After each step of the network."""
        if self._over:
            return
        if self._watch.refused is not None:
            self._stop(self._watch.refused)
        if self._checks:
            broken = self._checks.look(self.now)
            if broken is not None:
                self._stop(self._broken(broken))
        if self.now > self._until:
            self._stop(self._deadlock(f"the scenario has not ended within {self._until:g} s"))

    def stuck(self) -> NoReturn:
        """Nothing can ever happen again.

        :meta private:
        """
        self._stop(self._deadlock("nothing can ever happen again"))

    def _stop(self, error: Exception) -> NoReturn:
        """End the history, from within the network."""
        self._over = True
        raise error

    # -- what has gone wrong ---------------------------------------------------------------------

    def failed(
        self, host: str, what: str, error: Exception, stands: Callable[[], bool] = lambda: True
    ) -> None:
        """Something on a host has raised `error`: the history has failed, if that still
        `stands()` when it ends.

        :meta private:
        """
        if not self._over:
            place = len(self.network.trace)
            self._wrong.append(_Wrong(self.now, place, host, what, error, stands))

    def _raised(self, what: str, error: Exception, wrong: _Wrong | None = None) -> Failure:
        text = str(error).partition("\n")[0]
        name = type(error).__name__
        return self._failure(
            f"{what} raised {name}{': ' if text else ''}{text}",
            f"{what.split(maxsplit=1)[0]}: {name}",
            wrong=wrong,
            cause=error,
        )

    def _broken(self, broken: Broken) -> Failure:
        return self._failure(broken.what, broken.kind, cause=broken.error)

    def _deadlock(self, what: str) -> Failure:
        waiting = [
            (host.name, task.name, task.coro)
            for host in self._hosts.values()
            for task in host.waiting()
        ]
        return self._failure(
            f"{what}; these wait: {in_words(waiting)}", "deadlock", kind_of=Deadlock
        )

    def _failure(
        self,
        what: str,
        kind: str,
        *,
        wrong: _Wrong | None = None,
        cause: Exception | None = None,
        kind_of: type[Failure] = Failure,
    ) -> Failure:
        trace = self.network.trace
        place = len(trace) if wrong is None else wrong.place
        failure = kind_of(
            what,
            kind=kind,
            seed=self.seed,
            at=self.now if wrong is None else wrong.at,
            host="" if wrong is None else wrong.host,
            story=told(trace[max(place - LAST_LINES, 0) : place]),
        )
        failure.__cause__ = cause
        return failure


class _Network(Network):
    """The network of a world."""

    def __init__(self, seed: int, world: World) -> None:
        super().__init__(seed)
        self._world = world

    def stuck(self) -> NoReturn:
        self._world.stuck()


class _Wrong(NamedTuple):
    """What somebody has raised who is not the scenario."""

    at: float
    #: How much of the trace there was.
    place: int
    host: str
    what: str
    error: Exception
    stands: Callable[[], bool]


def _is_no_failure(error: Exception) -> bool:
    """Whether `error` says nothing about the history: a test that is skipped, say, or an
    assumption of Hypothesis that does not hold."""
    if isinstance(error, RealWorld | UsageError | unittest.SkipTest):
        return True
    return type(error).__module__.partition(".")[0] == "hypothesis"
