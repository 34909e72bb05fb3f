"""What histories have found in the server, once: each by the plan that was left of it."""

from __future__ import annotations

from typing import Any

import pytest

from anysock.options.serve import ServeOptions
from anysock.sim.cases import case_of
from anysock.sim.plan import Plan
from anysock.sim.scenario import run_history

FOUND: dict[str, tuple[str, dict[str, Any]]] = {
    # What was answered before max_lifetime, and not sent yet, was destroyed by the reset that the
    # client's next word caused.
    "lines_40642_an_answer_is_lost_at_the_end_of_a_lifetime": (
        "lines",
        {
            "seed": 40642,
            "options": {"max_lifetime": 0.746},
            "faults": {"latency": {}, "partial": {}, "small-buffers": {}},
            "only": {
                "partial": ["client4.0>#0", "client4.0>#1"],
                "small-buffers": ["client4.0>#0"],
            },
            "clients": [
                {
                    "number": 10,
                    "messages": [[816, 0.2756], [122, 0.258], [582, 0.2246]],
                    "host": 4,
                    "turns": False,
                }
            ],
        },
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_mended(name: str):
    handler, data = FOUND[name]
    plan = Plan.from_dict({"format": 1, **data})
    assert run_history(case_of(handler, handler, ServeOptions()), plan).finding is None
