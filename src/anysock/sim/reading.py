"""Read JSON strictly: what is not as it should be is told with the place where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from anysock.errors import UsageError

T = TypeVar("T")


def parse(text: str | bytes, where: str) -> Any:
    """What the JSON `text` holds. Raises `UsageError` for what is no JSON, and for the numbers that
    Python would take and JSON does not have."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise UsageError(f"{where}: JSON that is nested too deep") from None
    except ValueError as error:
        raise UsageError(f"{where}: no JSON: {error}") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def record(data: Any, where: str, names: Collection[str]) -> dict[str, Any]:
    """A JSON object that has no other names than `names`."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected an object, not {_shown(data)}")
    for name in data:
        if name not in names:
            raise UsageError(f"{where}: unknown name {name!r}: expected {', '.join(names)}")
    return data


def needed(data: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in data:
        raise UsageError(f"{where}: {name!r} is missing")
    return data[name]


def whole(data: Any, where: str, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    if isinstance(data, bool) or not isinstance(data, int) or not minimum <= data <= maximum:
        wanted = f"a whole number from {minimum}" if minimum else "a whole number"
        raise UsageError(f"{where}: expected {wanted}, not {_shown(data)}")
    return data


def number(data: Any, where: str) -> float:
    """A number that is not negative."""
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise UsageError(f"{where}: expected a number, not {_shown(data)}")
    try:
        found = float(data)
    except OverflowError:
        found = math.inf
    if not 0 <= found < math.inf:
        raise UsageError(f"{where}: expected a number from 0, not {_shown(data)}")
    return found


def switch(data: Any, where: str) -> bool:
    if not isinstance(data, bool):
        raise UsageError(f"{where}: expected true or false, not {_shown(data)}")
    return data


def text(data: Any, where: str) -> str:
    if not isinstance(data, str):
        raise UsageError(f"{where}: expected a text, not {_shown(data)}")
    return data


def one_of(data: Any, where: str, choices: Collection[str]) -> str:
    if not isinstance(data, str) or data not in choices:
        raise UsageError(f"{where}: expected one of {', '.join(choices)}, not {_shown(data)}")
    return data


def several(data: Any, where: str, each: Callable[[Any, str], T]) -> tuple[T, ...]:
    if not isinstance(data, list):
        raise UsageError(f"{where}: expected a list, not {_shown(data)}")
    return tuple(each(item, f"{where}[{place}]") for place, item in enumerate(data))


def named(data: Any, where: str, each: Callable[[Any, str], T]) -> dict[str, T]:
    """A JSON object with any names."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected an object, not {_shown(data)}")
    return {name: each(item, f"{where}.{name}") for name, item in data.items()}


def _shown(data: Any) -> str:
    shown = json.dumps(data)
    return shown if len(shown) <= 60 else shown[:57] + "..."
