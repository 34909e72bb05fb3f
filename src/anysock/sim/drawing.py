"""Values that a scenario draws: by Hypothesis, or from the seed."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def draw_by_seed(strategy: Any, seed: int) -> Any:
    """A value of a strategy of Hypothesis, which `seed` decides (and the version of Hypothesis)."""
    # Only who has a strategy gets here, and so has Hypothesis.
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
