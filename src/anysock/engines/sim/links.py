"""The ways between hosts: how long what is sent is on its way, and whether it gets through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from anysock.engines.sim.dice import Dice, hash_of
from anysock.engines.sim.timeline import Timeline
from anysock.engines.sim.troubles import Trouble, Troubles

# How long a segment is on its way between two hosts, in seconds.
LATENCY: Final = 0.0002

# After how long TCP sends again what was not acknowledged, in seconds; then after twice as long,
# and so on up to the last (RFC 6298; tcp(7), tcp_retries2).
FIRST_RETRY: Final = 0.2
LAST_RETRY: Final = 120.0


class Connection(Protocol):
    """One end of a connection between two hosts."""

    def watch_over(self) -> None:
        """Nothing gets through any more, in one direction at least."""
        ...


class Copies(Protocol):
    """What becomes of the datagrams of one way."""

    def copies(self) -> Sequence[float]:
        """How many seconds each copy of the next datagram is on its way."""
        ...


class Link:
    """The way from one host to another, one way. What is sent on it arrives in order."""

    def __init__(self, pair: Pair, source: str, to: str) -> None:
        self.pair = pair
        self.source = source
        self.to = to
        #: Seconds that a segment is on its way; 0 within a host.
        self.latency = 0.0 if source == to else LATENCY
        #: Which part of the packets is lost: from 0 to 1.
        self.drop = 0.0
        #: What happens to datagrams; None: none was sent yet.
        self.datagrams: Copies | None = None
        # Why nothing gets through, and since when.
        self._down: dict[str, float] = {}
        # Who has something that could not be delivered, and is told once it can.
        self._held: dict[Callable[[], object], None] = {}

    def __repr__(self) -> str:
        return f"<Link {self.source}>{self.to}>"

    def delay(self, size: int) -> float:
        """How long the next segment of TCP, of `size` bytes, is on its way. One that is lost comes
        when it is sent again."""
        return self.latency + FIRST_RETRY if self.drop and self.loses() else self.latency

    def loses(self) -> bool:
        """Whether the next packet is lost."""
        if not self.drop:
            return False
        chance = self.pair.network.chance.stream(f"drop/{self.source}>{self.to}")
        return chance.random() < self.drop

    @property
    def up(self) -> bool:
        """Whether what arrives now gets through."""
        pair = self.pair
        if pair.network.now >= pair.troubles.next:
            pair.meet_trouble()
        return not self._down

    @property
    def keeps(self) -> bool:
        """Whether what does not get through is only kept: else, it is lost."""
        return all(reason.startswith("hold") for reason in self._down)

    def stop(self, reason: str) -> None:
        """From now on nothing gets through, for this reason. There may be others."""
        if not self._down:
            for connection in self.pair.connections:
                connection.watch_over()
        self._down.setdefault(reason, self.pair.network.now)

    def go_on(self, reason: str) -> None:
        """This is no reason any more. If it was the last, all that was sent goes on in its order:
        what was kept, at once; what was lost, when TCP is due to send it again."""
        since = self._down.pop(reason, None)
        if since is None or self._down:
            return
        network = self.pair.network
        when, retry = network.now, FIRST_RETRY
        if not reason.startswith("hold"):
            when = since
            while when < network.now:
                when += retry
                retry = min(2 * retry, LAST_RETRY)
        held, self._held = self._held, {}
        for deliver in held:
            network.at(when, deliver)

    def hold(self) -> None:
        """From now on nothing gets through, and all is kept."""
        self.stop("hold")

    def release(self) -> None:
        """What was held goes on."""
        self.go_on("hold")

    def when_up(self, deliver: Callable[[], object]) -> None:
        """Call `deliver()` once it is up again."""
        self._held[deliver] = None

    def keep(self, deliver: Callable[[], object]) -> bool:
        """While nothing gets through: keep a packet, and call `deliver()` when it arrives. False:
        it is lost."""
        if not self.keeps:
            return False
        self.when_up(deliver)
        return True

    def heal(self) -> None:
        """All gets through, whatever was the reason that it did not."""
        self.drop = 0.0
        for reason in list(self._down):
            self.go_on(reason)


class Pair:
    """The two ways between two hosts, or the one of a host to itself."""

    def __init__(self, network: Timeline, one: str, other: str) -> None:
        self.network = network
        self.there = Link(self, one, other)
        self.back = Link(self, other, one) if one != other else self.there
        self._name = "|".join(sorted((one, other)))
        #: The connections between the two, each by its ends.
        self.connections: dict[Connection, None] = {}
        faults = None if one == other else network.faults
        #: What comes over the two, and when.
        self.troubles = Troubles(faults, ("partition", "one-way", "hold"), self._name, network.now)
        kind = None if faults is None else faults.kinds.get("latency")
        if kind is not None:
            least, most = kind.parameters["least"], kind.parameters["most"]
            for link in (self.there, self.back):
                subject = f"{link.source}>{link.to}"
                latency = Dice(kind.seed ^ hash_of(subject)).wide(least, most)
                if kind.happens(subject, 0):
                    link.latency = latency

    def meet_trouble(self) -> None:
        """Something is to be delivered, and it is the time of some trouble."""
        for trouble in self.troubles.meet(self.network.now):
            name = trouble.kind.name
            ways = [self.there, self.back]
            if name == "one-way":
                # By their names, and not by who was the first to connect.
                ways.sort(key=lambda link: link.source)
                ways = [ways[trouble.dice.below(2)]]
            self._stop(trouble, ways)

    def _stop(self, trouble: Trouble, ways: list[Link]) -> None:
        name = trouble.kind.name
        reason = f"{name} {trouble.number}"
        lasts = round(trouble.ends - self.network.now, 6)
        for link in ways:
            link.stop(reason)
            self.network.note(link.source, name, link.to, lasts)
        self.network.at(trouble.ends, lambda: self._go_on(reason, ways))

    def _go_on(self, reason: str, ways: list[Link]) -> None:
        for link in ways:
            link.go_on(reason)

    def heal(self) -> None:
        """There is no trouble any more."""
        self.troubles.clear()
        self.there.heal()
        self.back.heal()
