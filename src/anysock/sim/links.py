"""The link between two hosts, as a scenario has it: both ways at once."""

from __future__ import annotations

from anysock.engines.sim.links import Link
from anysock.engines.sim.network import Network
from anysock.errors import UsageError
from anysock.sim.faces import AHost


class LinkHandle:
    """What is between two hosts: `World.link` makes it."""

    def __init__(self, network: Network, one: AHost, other: AHost) -> None:
        self._network = network
        self._hosts = (one, other)
        self._name = f"{one.name} – {other.name}"
        a, b = one.host, other.host
        #: From the first host to the second, and back.
        #:
        #: :meta private:
        self.ways: tuple[Link, Link] = (network.link(a, b), network.link(b, a))

    def __repr__(self) -> str:
        return f"<link {self._name}>"

    def _note(self, what: str, *details: object) -> None:
        self._network.note("network", what, self._name, *details)

    @property
    def latency(self) -> float:
        """How long a packet is on its way, in seconds. To set it sets it both ways."""
        return self.ways[0].latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        if not seconds >= 0:
            raise UsageError(f"the latency of a link is a number of seconds, not {seconds!r}")
        self._note("latency", seconds)
        for way in self.ways:
            way.latency = seconds

    @property
    def drop(self) -> float:
        """Which part of the packets is lost, from 0 to 1. What TCP has lost comes later."""
        return self.ways[0].drop

    @drop.setter
    def drop(self, part: float) -> None:
        if not 0 <= part <= 1:
            raise UsageError(f"a link loses a part of its packets, from 0 to 1, not {part!r}")
        self._note("drops", part)
        for way in self.ways:
            way.drop = part

    def hold(self) -> None:
        """Let nothing through any more, until `release`; all is kept, and nothing lost."""
        self._note("holds")
        for way in self.ways:
            way.hold()

    def release(self) -> None:
        """What was held goes on, at once and in its order."""
        self._note("releases")
        for way in self.ways:
            way.release()

    def reset(self) -> None:
        """Reset all connections between the two hosts, as a firewall does that has forgotten
        them."""
        self._note("resets")
        one, other = (each.host for each in self._hosts)
        for sock in list(one.sockets.values()):
            far = getattr(sock, "far", None)
            if far is not None and far.host is other:
                sock.break_off()

    def part(self, *, one_way: bool) -> None:
        """`World.partition`.

        :meta private:
        """
        self._note("parts", *(["one way"] if one_way else []))
        for way in self.ways[:1] if one_way else self.ways:
            way.stop(_PARTED)

    def heal(self) -> None:
        """Let everything through again, whatever was the reason that it did not."""
        self._note("heals")
        for way in self.ways:
            way.heal()


# Why nothing gets through, as a link keeps it.
_PARTED = "parted"
