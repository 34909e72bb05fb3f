"""The simulated network: one clock, what is to happen by it, and the hosts that take turns.

One host drives: the one whose engine was told to `run`. Whenever its loop would sleep, the network
runs: hosts that have something to do are turned, one iteration of their loop each, and when none
has, the clock jumps to whatever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from anysock.engines.sim.faults import FaultPlan
from anysock.engines.sim.links import Link, Pair
from anysock.engines.sim.timeline import Timeline
from anysock.errors import AnysockError

# What a turn of a host costs, in seconds.
TURN_SECONDS: Final = 1e-6

NEVER: Final = float("inf")


class Member:
    """What the network asks of a host."""

    #: Its name, and its addresses as others see them.
    name: str
    addresses: Sequence[str]

    def owns(self, address: str) -> bool:
        """Whether `address` is one of its own, loopback's among them."""
        raise NotImplementedError

    def enter(self) -> None:
        """From now on, system calls are this host's."""
        raise NotImplementedError

    def has_events(self) -> bool:
        """Whether its loop has something to do."""
        raise NotImplementedError

    def turn(self) -> None:
        """Run one iteration of its loop."""
        raise NotImplementedError

    def waiting(self) -> list[str]:
        """The names of the tasks that have not ended."""
        raise NotImplementedError


class Deadlock(AnysockError):
    """Nothing can ever happen again: every task waits for another, or for what will not come."""


class Network(Timeline):
    """Hosts, the links between them, and their common time.

    The same `seed`, with the same plan of `faults`, gives the same history.
    """

    def __init__(self, seed: int = 0, faults: FaultPlan | None = None) -> None:
        super().__init__(seed, faults)
        self.hosts: dict[str, Any] = {}
        #: How many turns the loops of all hosts have taken; and after how many the garbage of the
        #: history is collected: most have fewer.
        self.turns = 0
        self.collect_turns = 50_000
        #: How many steps there were: turns of hosts, and instants at which something has happened.
        self.steps = 0
        #: Called after a step, while somebody asks for `attention`, and when the time is over.
        self.on_step: Callable[[], object] | None = None
        self.attention = False
        self.until = NEVER
        #: Called when nothing can ever happen again; None: that is a `Deadlock`.
        self.on_stuck: Callable[[], NoReturn] | None = None
        # The hosts that have something to do, in the order in which they are turned.
        self._busy: dict[Member, None] = {}
        self._links: dict[tuple[str, str], Link] = {}
        #: Connections of which one end has vanished for the other, without a word.
        self.severed: list[Any] = []

    # -- hosts -----------------------------------------------------------------------------------

    def link(self, source: Member, to: Member) -> Link:
        """The way from one host to another."""
        key = source.name, to.name
        link = self._links.get(key)
        if link is None:
            pair = Pair(self, source.name, to.name)
            self._links[to.name, source.name] = pair.back
            link = self._links[key] = pair.there
        return link

    @property
    def links(self) -> Sequence[Link]:
        """All the ways between hosts that were ever asked for."""
        return list(self._links.values())

    def heal(self) -> None:
        """From now on nothing goes wrong any more. What has, is mended: all links let through what
        was sent on them, and who speaks to a peer that has vanished is told so."""
        if self.faults is not None:
            self.faults.heal()
        for link in list(self._links.values()):
            link.pair.heal()
        severed, self.severed = self.severed, []
        for sock in severed:
            sock.break_off()

    def host_of(self, address: str, asking: Member) -> Any:
        """The host that has `address`, as seen from `asking`."""
        if asking.owns(address):
            return asking
        for host in self.hosts.values():
            if address in host.addresses:
                return host
        return None

    def busy(self, host: Member) -> None:
        """`host` has something to do."""
        self._busy[host] = None

    # -- running ---------------------------------------------------------------------------------

    def take_turns(self, driver: Member) -> None:
        """Turn each host that has something to do now, but the driver, once."""
        for host in list(self._busy):
            if host is not driver and host in self._busy:
                del self._busy[host]
                self.now += TURN_SECONDS
                host.turn()
                self._stepped()
        driver.enter()

    def run_until(self, driver: Member, until: float) -> None:
        """Let all run until the driver has something to do, or the time `until` has come.

        Raises `Deadlock` when neither will ever be.
        """
        try:
            self._run_until(driver, until)
        finally:
            driver.enter()
        self._stepped()

    def _run_until(self, driver: Member, until: float) -> None:
        busy, entries = self._busy, self.entries
        while True:
            while busy:
                host = next(iter(busy))
                del busy[host]
                if host is driver:
                    if driver.has_events():
                        return
                    continue
                self.now += TURN_SECONDS
                host.turn()
                self._stepped()
                if entries and entries[0][0] <= self.now:
                    self._go_on()
            when = self.next_due()
            if when is None or when > until:
                if until == NEVER:
                    self._stuck()
                self.now = max(self.now, until)
                return
            self.now = max(self.now, when)
            self._go_on()

    def _go_on(self) -> None:
        self.run_due()
        self._stepped()

    def _stepped(self) -> None:
        self.steps += 1
        if (self.attention or self.now > self.until) and self.on_step is not None:
            self.on_step()

    def _stuck(self) -> NoReturn:
        if self.on_stuck is not None:
            self.on_stuck()
        raise Deadlock(self.who_waits())

    def who_waits(self) -> str:
        """In words, which tasks wait on which host."""
        waiting = [
            f"{host.name}: {', '.join(names)}"
            for host in self.hosts.values()
            if (names := host.waiting())
        ]
        return "nothing can ever happen again; these wait: " + ("; ".join(waiting) or "none")
