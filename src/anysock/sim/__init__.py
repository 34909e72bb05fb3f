"""The real server in a simulated, seeded and hostile network. Not imported with ``anysock``.

- `world`, `hosts`, `serving`, `tasks`, `links`: a world, what is on it, and one history of it;
- `decorator`, `drawing`: tests of many histories, by themselves and by Hypothesis;
- `checks`, `judging`, `failure`, `waiting`, `runaway`: what must hold, and what is told if not;
- `balancing`: a load balancer in front of a server, with health checks;
- `tls`: a certificate for servers, and clients that trust it;
- `sometimes`, `current`: what is rare, made frequent where a history runs;
- `guards`, `origins`: the real machine is refused within a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# What `sometimes` needs, which programs use outside of simulations, is all that is imported here.
from anysock.sim.sometimes import sometimes

if TYPE_CHECKING:
    from anysock.sim.balancing import check_health, proxy
    from anysock.sim.decorator import histories
    from anysock.sim.drawing import plans
    from anysock.sim.failure import Deadlock, Failure
    from anysock.sim.guards import RealWorld
    from anysock.sim.hosts import HostHandle
    from anysock.sim.links import LinkHandle
    from anysock.sim.serving import HostServer
    from anysock.sim.tasks import Crashed, HostTask
    from anysock.sim.tls import CERTIFICATE, client_context
    from anysock.sim.world import World

_WHERE = {
    "CERTIFICATE": "tls",
    "Crashed": "tasks",
    "Deadlock": "failure",
    "Failure": "failure",
    "HostHandle": "hosts",
    "HostServer": "serving",
    "HostTask": "tasks",
    "LinkHandle": "links",
    "RealWorld": "guards",
    "World": "world",
    "check_health": "balancing",
    "client_context": "tls",
    "proxy": "balancing",
    "histories": "decorator",
    "plans": "drawing",
}

__all__ = [
    "CERTIFICATE",
    "Crashed",
    "Deadlock",
    "Failure",
    "HostHandle",
    "HostServer",
    "HostTask",
    "LinkHandle",
    "RealWorld",
    "World",
    "check_health",
    "client_context",
    "histories",
    "plans",
    "proxy",
    "sometimes",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
