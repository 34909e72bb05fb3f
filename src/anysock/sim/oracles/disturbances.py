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

# After what was lost, TCP sends again in ever longer intervals (`engines.sim.links`): until twice
# as long after its beginning, and for the first time so many seconds after it.
_FIRST_RETRY = 0.2


def disturbances(network: Network) -> list[Disturbance]:
    """All that was done, by faults, and by hand."""
    return list(_told(network))


def _told(network: Network) -> Iterator[Disturbance]:
    parted: list[tuple[float, tuple[str, ...]]] = []
    stalled: dict[str, float] = {}
    for when, host, what, *details in network.trace:
        if what in _BETWEEN:
            to, seconds = details
            ended = when + 2 * seconds + _FIRST_RETRY
            yield Disturbance(what, (host, to), when, ended)
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
        elif what == "crashes":
            yield Disturbance(what, (host,), when, kills=True)
        elif what == "parts":
            parted.append((when, (details[0], details[1])))
        elif what == "heals":
            for began, pair in parted:
                yield Disturbance("parts", pair, began, 2 * when - began + _FIRST_RETRY)
            parted.clear()
        elif what == "stalls":
            stalled.setdefault(host, when)
        elif what == "goes on" and host in stalled:
            yield Disturbance("stalls", (host,), stalled.pop(host), when)
    for began, pair in parted:
        yield Disturbance("parts", pair, began)
    for host, began in stalled.items():
        yield Disturbance("stalls", (host,), began)


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
