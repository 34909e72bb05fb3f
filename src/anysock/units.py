"""Durations and sizes, as people write them: ``500ms``, ``64KiB``."""

from __future__ import annotations

import math
import re

from anysock.errors import UsageError

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\s*", re.ASCII)

_SECONDS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATIONS = "a number of seconds, or with a unit of us, ms, s, m, h, such as 500ms"

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SIZES = "a number of bytes, or with a unit of B, kB, MB, GB, KiB, MiB, GiB, such as 64KiB"


def parse_duration(value: str | float) -> float:
    """The seconds that `value` means: a number of them, or a text such as ``"500ms"``.

    Raises `UsageError` for what is no duration: no number, an unknown unit, less than nothing, or
    not finite.
    """
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.fullmatch(value)
        factor = _SECONDS.get(match[2]) if match else None
        seconds = float(match[1]) * factor if match and factor else None
    else:
        seconds = float(value) if isinstance(value, int | float) else None
    if seconds is None or not 0 <= seconds < math.inf:
        raise UsageError(f"expected {_DURATIONS}, not {value!r}")
    return seconds


def parse_size(value: str | int) -> int:
    """The bytes that `value` means: a number of them, or a text such as ``"64KiB"``.

    Upper and lower case mean the same. Raises `UsageError` for what is no size, or not a whole
    number of bytes.
    """
    size: float | None = None
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.fullmatch(value)
        factor = _BYTES.get(match[2].lower()) if match else None
        if match and factor:
            digits = match[1]
            size = int(digits) * factor if digits.isdigit() else float(digits) * factor
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if size is None or size < 0 or size != int(size):
        raise UsageError(f"expected {_SIZES}, not {value!r}")
    return int(size)


def format_duration(seconds: float) -> str:
    """A text that `parse_duration` reads as `seconds`: ``10s``, ``500ms``."""
    for unit in ("s", "ms", "us"):
        number = seconds / _SECONDS[unit]
        text = f"{number:f}".rstrip("0").rstrip(".") + unit
        if number >= 1 and parse_duration(text) == seconds:
            return text
    return f"{seconds:.25f}".rstrip("0").rstrip(".") + "s"


def format_size(size: int) -> str:
    """A text that `parse_size` reads as `size`: ``64KiB``, ``1000B``."""
    for unit in ("GiB", "MiB", "KiB"):
        factor = _BYTES[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
