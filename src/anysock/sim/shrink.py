"""Make a plan that fails smaller, as long as it fails in the same way.

What is left out are parts of the plan, and not draws of chance: each part draws from a stream of
its own, so that the rest goes on as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from anysock.engines.sim.fault_kinds import FAULTS
from anysock.sim import wall
from anysock.sim.finding import Finding
from anysock.sim.plan import ENDS, READING, Client, Message, Plan

T = TypeVar("T")

#: Runs a plan: what is wrong with that history, or None.
Fails: TypeAlias = Callable[[Plan], Finding | None]

#: A shrinker: plans that are smaller than the one given, the smallest first.
Smaller: TypeAlias = Callable[[Plan, Finding], Iterator[Plan]]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A plan, and what is wrong with its history."""

    plan: Plan
    finding: Finding
    #: How many plans were tried for it.
    tries: int = 0


def shrink(
    plan: Plan,
    finding: Finding,
    fails: Fails,
    *,
    tries: int = 300,
    within: float = 2.0,
    kept: Collection[str] = (),
) -> Shrunk:
    """The smallest plan found within so many tries and seconds of computing that fails like
    `finding`. The options that are named in `kept` stay: somebody has asked for them."""
    asked_for = {name: plan.options[name] for name in kept if name in plan.options}
    best, done, ends_at = Shrunk(plan, finding), 0, wall.computing() + within

    def improve(smaller: Smaller) -> bool:
        """Whether one of the plans that `smaller` offers fails, too."""
        nonlocal best, done
        for offered in smaller(best.plan, best.finding):
            if done >= tries or wall.computing() >= ends_at:
                return False
            candidate = offered
            if asked_for.keys() - offered.options.keys():
                candidate = offered.changed(options={**offered.options, **asked_for})
            if candidate == best.plan:
                continue
            done += 1
            found = fails(candidate)
            if found is not None and found.kind == finding.kind:
                best = Shrunk(candidate, found)
                return True
        return False

    progress = True
    while progress:
        progress = False
        for smaller in SHRINKERS:
            while improve(smaller):
                progress = True
    return Shrunk(best.plan, best.finding, done)


def _fewer(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Fewer of `items`: none, then without larger and smaller parts of them."""
    part = len(items)
    while part:
        for start in range(0, len(items), part):
            yield (*items[:start], *items[start + part :])
        part //= 2


def _calm(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    """Much of what fails does so in a good network, which is also the quickest to try."""
    if plan.faults or plan.options:
        yield plan.changed(faults={}, only={}, options={})


def _fewer_clients(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    # Most need one or two: each alone is tried before anything else.
    if len(plan.clients) > 2:
        for client in plan.clients:
            yield plan.changed(clients=(client,))
    for clients in _fewer(plan.clients):
        yield plan.changed(clients=clients)


def _fewer_faults(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    for kinds in _fewer(tuple(plan.faults)):
        yield plan.changed(
            faults={kind: plan.faults[kind] for kind in kinds},
            only={kind: places for kind, places in plan.only.items() if kind in kinds},
        )


def _surer_faults(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    """One client, whom a fault meets each time that it can: of those who came before it, it may
    have needed no more than that chance has met it later."""
    sure = {
        kind: {**parameters, "probability": 1.0}
        if "probability" in FAULTS[kind].parameters
        else parameters
        for kind, parameters in plan.faults.items()
        if kind in FAULTS
    }
    if len(plan.clients) > 1 and any("probability" in parameters for parameters in sure.values()):
        for client in plan.clients:
            yield plan.changed(clients=(client,), faults=sure, only={})


def _fewer_options(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    for names in _fewer(tuple(plan.options)):
        yield plan.changed(options={name: plan.options[name] for name in names})


def _smaller_options(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    """Lower limits are met by fewer clients."""
    for name in _COUNTS:
        limit = plan.options.get(name)
        for lower in (1, 2):
            if limit is not None and lower < limit:
                yield plan.changed(options={**plan.options, name: lower})


_COUNTS = ("max_connections", "per_source", "backlog")


def _plainer(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    if plan.tls:
        yield plan.changed(tls=False)
    if plan.drain_at is not None:
        yield plan.changed(drain_at=None)


def _fewer_messages(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    for place, client in enumerate(plan.clients):
        for messages in _fewer(client.messages):
            yield _with(plan, place, client, messages=messages)


def _plainer_clients(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    for place, client in enumerate(plan.clients):
        if any(message.pause for message in client.messages):
            quick = tuple(Message(message.size) for message in client.messages)
            yield _with(plan, place, client, messages=quick)
        if client.starts:
            yield _with(plan, place, client, starts=0.0)
        if client.reading != READING[0]:
            yield _with(plan, place, client, reading=READING[0])
        if client.ends != ENDS[0]:
            yield _with(plan, place, client, ends=ENDS[0])
        if client.host:
            yield _with(plan, place, client, host=0)


def _smaller_messages(plan: Plan, _finding: Finding) -> Iterator[Plan]:
    for place, client in enumerate(plan.clients):
        for limit in (10, max((each.size for each in client.messages), default=0) // 2):
            smaller = tuple(
                Message(max(1, min(each.size, limit)), each.pause) for each in client.messages
            )
            yield _with(plan, place, client, messages=smaller)


def _with(plan: Plan, place: int, client: Client, **fields: Any) -> Plan:
    clients = list(plan.clients)
    clients[place] = client.changed(**fields)
    return plan.changed(clients=tuple(clients))


def _fewer_strikes(plan: Plan, finding: Finding) -> Iterator[Plan]:
    """Fewer occurrences of each kind of fault; those of which it is not known are all of them."""
    for kind in plan.faults:
        places = plan.only.get(kind)
        if places is None:
            places = tuple(finding.occurrences.get(kind, ()))
            if len(places) > _MANY_STRIKES:
                # It goes on all the time, such as latency: there is nothing to count.
                continue
        if len(places) > 1:
            for place in (places[-1], places[0]):
                yield plan.changed(only={**plan.only, kind: (place,)})
            for fewer in _fewer(places):
                if fewer:
                    yield plan.changed(only={**plan.only, kind: fewer})
        elif places and kind not in plan.only:
            yield plan.changed(only={**plan.only, kind: places})


_MANY_STRIKES = 64

SHRINKERS: tuple[Smaller, ...] = (
    _calm,
    _fewer_clients,
    _fewer_faults,
    _fewer_options,
    _smaller_options,
    _plainer,
    _fewer_messages,
    _plainer_clients,
    _smaller_messages,
    _fewer_strikes,
    _surer_faults,
)
