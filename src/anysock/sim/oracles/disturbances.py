"""What was done to a network and its hosts, as its trace tells it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from anysock.engines.sim.network import Network
from anysock.sim.oracles.records import Disturbance

# Between two hosts, for so many seconds; what is lost then is sent again as much later.
_BETWEEN = {"partition", "one-way", "hold"}

# To one host, for so many seconds.
_ON_HOST = {"stall", "slow-step", "emfile", "enfile", "enobufs"}

# To one connection.
_ON_CONNECTION = {"reset", "half-open"}

# What a scenario does by hand: what begins, and what ends it; to a host, and to a link, which is
# named with both its hosts.
_BY_HAND = {"stalls": "goes on", "parts": "heals", "holds": "releases"}
_KILLS = {"crashes", "loses power", "resets"}

_TOLD = {
    *_BETWEEN,
    *_ON_HOST,
    *_ON_CONNECTION,
    *_KILLS,
    *_BY_HAND,
    *_BY_HAND.values(),
    "zero-window",
}

# After what was lost, TCP sends again in ever longer intervals (`engines.sim.links`): until twice
# as long after its beginning, and for the first time so many seconds after it.
_FIRST_RETRY = 0.2


def disturbances(network: Network) -> list[Disturbance]:
    """All that was done, by faults, and by hand."""
    return list(_told(network))


def _told(network: Network) -> Iterator[Disturbance]:
    begun: dict[tuple[str, tuple[str, ...]], float] = {}
    # Nearly all of a trace is of segments, and is passed over first.
    for when, host, what, *details in [each for each in network.trace if each[2] in _TOLD]:
        if what in _BETWEEN:
            to, seconds = details
            yield Disturbance(what, (host, to), when, _sent_again(when, when + seconds))
        elif what in _ON_HOST:
            yield Disturbance(what, (host,), when, when + details[0])
        elif what in _ON_CONNECTION:
            peer, ours = details
            hosts = (host, _host_of(network, host, peer))
            yield Disturbance(what, hosts, when, kills=True, ends=(peer, ours))
        elif what == "zero-window":
            peer, ours, seconds = details
            hosts = (host, _host_of(network, host, peer))
            yield Disturbance(what, hosts, when, when + seconds, ends=(peer, ours))
        elif what in _KILLS:
            yield Disturbance(what, _concerned(host, details), when, kills=True)
        elif what in _BY_HAND:
            begun.setdefault((what, _concerned(host, details)), when)
        elif what in _BY_HAND.values():
            concerned = _concerned(host, details)
            for (beginning, of), began in list(begun.items()):
                # All is healed where no hosts are named.
                if (_BY_HAND[beginning] == what and of == concerned) or (
                    what == "heals" and (not concerned or of == concerned)
                ):
                    del begun[beginning, of]
                    yield Disturbance(beginning, of, began, _sent_again(began, when))
    for (beginning, of), began in begun.items():
        yield Disturbance(beginning, of, began)


def _concerned(host: str, details: list[Any]) -> tuple[str, ...]:
    """The hosts that an entry is about which a scenario has caused."""
    if host != "network":
        return (host,)
    return tuple(details[0].split(" – ")) if details else ()


def _sent_again(began: float, ended: float) -> float:
    return 2 * ended - began + _FIRST_RETRY


def _host_of(network: Network, asking: str, address: Any) -> str:
    found = network.host_of(address[0], network.hosts[asking])
    return str(found.name)


def latency(network: Network) -> float:
    """How many seconds a segment takes on its way at most, where nothing holds it up."""
    most = max((link.latency for link in network.links), default=0.0)
    if network.faults is None:
        return most
    kinds = network.faults.kinds
    for name, parameter in (("jitter", "most"), ("split", "gap"), ("merge", "lasts")):
        if name in kinds:
            most += kinds[name].parameters[parameter]
    return math.ceil(most * 1e6) / 1e6
