"""Options of a server as part of a plan: the limits that most servers never meet, drawn so that
they are met (FoundationDB calls them knobs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from anysock.engines.sim.dice import Dice
from anysock.options.units import parse_rate

Draw: TypeAlias = Callable[[Callable[[], float], int, int], Any]

# Each is given a function that draws from 0 to 1, the number of clients, and the largest message.
# Sizes and times are such that a client of the plan may meet them, or just not.
KNOBS: dict[str, Draw] = {
    "max_connections": lambda draw, clients, _: 1 + int(clients * draw() ** 2),
    "overflow": lambda draw, *_: "close" if draw() < 0.5 else "wait",
    "per_source": lambda draw, clients, _: 1 + int(clients * draw() ** 2),
    "accept_rate": lambda draw, *_: round(2 + 200 * draw() ** 2, 1),
    "backlog": lambda draw, *_: 1 + int(8 * draw()),
    "idle_timeout": lambda draw, *_: round(0.2 + 3 * draw(), 3),
    "write_timeout": lambda draw, *_: round(0.2 + 3 * draw(), 3),
    "max_lifetime": lambda draw, *_: round(0.3 + 4 * draw(), 3),
    "min_rate": lambda draw, *_: round(1 + 500 * draw() ** 2, 1),
    "rate_limit": lambda draw, *_: round(1000 + 50_000 * draw() ** 2, 1),
    "max_bytes": lambda draw, _, size: 1 + int(10 * size * draw() ** 2),
    "max_memory": lambda draw, _, size: 1000 + int(50 * size * draw() ** 2),
    "recv_size": lambda draw, *_: 1 + int(200 * draw() ** 2),
    "socket_buffer": lambda draw, *_: 256 + int(8000 * draw() ** 2),
    "drain_timeout": lambda draw, *_: round(0.5 + 5 * draw(), 3),
}

# So few at a time that each is also met alone: one limit hides another.
_SHARE = 0.2


def draw(chance: Dice, clients: int, size: int) -> dict[str, Any]:
    """Some of the knobs, turned."""
    number = chance.random
    return {name: turn(number, clients, size) for name, turn in KNOBS.items() if number() < _SHARE}


def together(drawn: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` options, and those of `drawn` that a server takes beside them."""
    options = {**drawn, **given}
    limit, least = options.get("rate_limit"), options.get("min_rate", 0.1)
    if limit is not None and parse_rate(least) >= parse_rate(limit):
        loser = "min_rate" if "min_rate" in drawn and "min_rate" not in given else "rate_limit"
        if loser not in given:
            del options[loser]
    if "overflow" not in given and not {"max_connections", "accept_rate"} & options.keys():
        options.pop("overflow", None)
    return options
