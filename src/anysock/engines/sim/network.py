"""The simulated network: one clock, what is to happen by it, and the hosts that take turns.

One host drives: the one whose engine was told to `run`. Whenever its loop would sleep, the network
runs: hosts that have something to do are turned, one iteration of their loop each, and when none
has, the clock jumps to whatever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from anysock.engines.sim.agenda import Agenda, Due
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.faults import FaultPlan, Faults
from anysock.engines.sim.links import Link, Pair
from anysock.errors import AnysockError

# What a look at the clock costs, and a turn of a host, in seconds. Who waits for time to pass
# without letting it would otherwise wait for ever.
LOOK_SECONDS = 1e-7
TURN_SECONDS = 1e-6

NEVER = float("inf")


class Member(Protocol):
    """What the network asks of a host."""

    @property
    def name(self) -> str: ...

    @property
    def addresses(self) -> Sequence[str]: ...

    def owns(self, address: str) -> bool:
        """Whether `address` is one of its own, loopback's among them."""
        ...

    def enter(self) -> None:
        """From now on, system calls are this host's."""
        ...

    def has_events(self) -> bool:
        """Whether its loop has something to do."""
        ...

    def turn(self) -> None:
        """Run one iteration of its loop."""
        ...

    def waiting(self) -> list[str]:
        """The names of the tasks that have not ended."""
        ...


class Deadlock(AnysockError):
    """Nothing can ever happen again: every task waits for another, or for what will not come."""


class Network:
    """Hosts, the links between them, and their common time.

    The same `seed`, with the same plan of `faults`, gives the same history.
    """

    def __init__(self, seed: int = 0, faults: FaultPlan | None = None) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        self.chance = Chance(seed)
        #: What goes wrong; None: nothing that is not asked for by name.
        self.faults = Faults(faults, self.chance) if faults is not None and faults.kinds else None
        self.hosts: dict[str, Any] = {}
        #: How many turns the loops of all hosts have taken.
        self.turns = 0
        #: A checksum of all that was sent: the trace tells how many bytes, and with this, which.
        self.carried = 0
        #: Whether those bytes are the same each time: see `tls_chance`.
        self.exact = True
        #: What has happened: when, on which host, what, and details.
        self.trace: list[tuple[Any, ...]] = []
        #: Called after each turn of a host, and each instant at which something has happened.
        self.on_step: Callable[[], object] | None = None
        self._agenda = agenda = Agenda()
        #: ``at(when, action)``: call `action()` at the time `when`; and forget what was told so.
        self.at, self.cancel = agenda.add, agenda.cancel
        # The hosts that have something to do, in the order in which they are turned.
        self._busy: dict[Member, None] = {}
        self._links: dict[tuple[str, str], Link] = {}
        #: Connections of which one end has vanished for the other, without a word.
        self.severed: list[Any] = []

    # -- time ------------------------------------------------------------------------------------

    def look(self) -> float:
        """What a clock shows that is looked at."""
        self.now += LOOK_SECONDS
        return self.now

    def after(self, seconds: float, action: Callable[[], object]) -> Due:
        """Call `action()` in so many seconds."""
        return self.at(self.now + seconds, action)

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

    def note(self, host: str, what: str, *details: Any) -> None:
        """Add a line to the trace."""
        self.trace.append((self.now, host, what, *details))

    # -- running ---------------------------------------------------------------------------------

    def take_turns(self, driver: Member) -> None:
        """Turn each host that has something to do now, but the driver, once."""
        for host in list(self._busy):
            if host is not driver and host in self._busy:
                del self._busy[host]
                self.now += TURN_SECONDS
                host.turn()
                if self.on_step is not None:
                    self.on_step()
        driver.enter()

    def run_until(self, driver: Member, until: float) -> None:
        """Let all run until the driver has something to do, or the time `until` has come.

        Raises `Deadlock` when neither will ever be.
        """
        busy, agenda, on_step = self._busy, self._agenda, self.on_step
        entries = agenda.entries
        try:
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
                    if on_step is not None:
                        on_step()
                    if entries and entries[0][0] <= self.now:
                        self._run_due()
                when = agenda.next()
                if when is None or when > until:
                    if until == NEVER:
                        self.stuck()
                    self.now = max(self.now, until)
                    return
                self.now = max(self.now, when)
                self._run_due()
        finally:
            driver.enter()

    def _run_due(self) -> None:
        self._agenda.run(self.now)
        if self.on_step is not None:
            self.on_step()

    def stuck(self) -> NoReturn:
        """Nothing can ever happen again."""
        raise Deadlock(self.who_waits())

    def who_waits(self) -> str:
        """In words, which tasks wait on which host."""
        waiting = [
            f"{host.name}: {', '.join(names)}"
            for host in self.hosts.values()
            if (names := host.waiting())
        ]
        return "nothing can ever happen again; these wait: " + ("; ".join(waiting) or "none")
