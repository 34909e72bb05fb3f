"""Hypothesis: its values in a scenario, and plans as one of its strategies.

Only who has Hypothesis gets here, so that it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anysock.engines.sim.faults import FaultPlan
from anysock.sim.asked import AskedFaults, faults_of
from anysock.sim.plan import Plan

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def plans(
    *,
    clients: int = 0,
    faults: AskedFaults = "hostile",
    options: Mapping[str, Any] | None = None,
) -> SearchStrategy[Plan]:
    """Plans, as a strategy of Hypothesis: up to so many `clients`, some of the `faults`, a few
    options of a server at random besides `options`, and a seed.

    Hypothesis makes smaller what fails, as it does with everything:

    >>> from hypothesis import given  # doctest: +SKIP
    >>> @given(plan=sim.plans(clients=20))  # doctest: +SKIP
    ... def test_echo(plan):
    ...     sim.World(plan=plan).run(scenario)
    """
    from hypothesis import strategies

    asked = faults_of(faults)

    @strategies.composite
    def drawn(draw: Any) -> Plan:
        plan = Plan.draw(
            draw(strategies.integers(0, 2**31 - 1)),
            clients=draw(strategies.integers(0, clients)),
            faults=asked.kinds,
            options=options or {},
        )
        # Of each kind by itself, so that Hypothesis can leave it out.
        kinds = {name: each for name, each in asked.kinds.items() if draw(strategies.booleans())}
        return plan.changed(faults=FaultPlan(kinds).kinds)

    found: SearchStrategy[Plan] = drawn()
    return found


def draw_by_seed(strategy: Any, seed: int) -> Any:
    """A value of a strategy, which `seed` decides (and the version of Hypothesis)."""
    import hypothesis

    found: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        # The first example is the simplest there is, and always the same.
        max_examples=2,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def take(value: Any) -> None:
        found.append(value)

    take()
    return found[-1]
