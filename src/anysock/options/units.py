"""Durations, sizes and rates as people write them: ``500ms``, ``64KiB``, ``1MB/s``."""

from __future__ import annotations

import contextlib
import math
import re

from anysock.errors import UsageError

_NUMBER_AND_UNIT = re.compile(r"\s*(?=\.?\d)(\d*)(?:\.(\d+))?\s*([a-zA-Z]*)\s*", re.ASCII)

_SECOND = 1_000_000
_MICROSECONDS = {
    "us": 1,
    "ms": 1000,
    "": _SECOND,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "min": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
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
    """The duration `value` in seconds; `value` is a number, or a text such as ``"500ms"``.

    Raises `UsageError` if `value` is no number, has an unknown unit, is negative or not finite.
    """
    seconds: float | None = None
    # A number too large for a float is no duration.
    with contextlib.suppress(OverflowError):
        if isinstance(value, str):
            if (exact := _read(value, _MICROSECONDS)) is not None:
                seconds = exact[0] / (exact[1] * _SECOND)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
    if seconds is None or not 0 <= seconds < math.inf:
        raise UsageError(f"expected {_DURATIONS}, not {value!r}")
    return seconds


def parse_size(value: str | int) -> int:
    """The size `value` in bytes; `value` is a number, or a text such as ``"64KiB"``.

    Upper and lower case mean the same. Raises `UsageError` if `value` is no size, or not a whole
    number of bytes.
    """
    size: int | None = None
    if isinstance(value, str):
        exact = _read(value, _BYTES, fold_case=True)
        if exact is not None and exact[0] % exact[1] == 0:
            size = exact[0] // exact[1]
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if size is None or size < 0:
        raise UsageError(f"expected {_SIZES}, not {value!r}")
    return size


def parse_rate(value: str | float) -> float:
    """The rate `value` in bytes per second; `value` is a number, or a text such as ``"64KiB"``,
    ``"0.1"`` or ``"1MB/s"``.

    Raises `UsageError` if `value` is no rate.
    """
    rate: float | None = None
    with contextlib.suppress(OverflowError):
        if isinstance(value, str):
            exact = _read(value.removesuffix("/s"), _BYTES, fold_case=True)
            rate = None if exact is None else exact[0] / exact[1]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rate = float(value)
    if rate is None or not 0 <= rate < math.inf:
        raise UsageError(f"expected {_SIZES} (per second), not {value!r}")
    return rate


def raw_bytes(text: str) -> bytes:
    """`text` in UTF-8. Bytes of an argument or an environment variable that are no UTF-8, and
    became surrogates in `text` (PEP 383), become the same bytes again.

    Raises UnicodeEncodeError for any other surrogate.
    """
    return text.encode("utf-8", "surrogateescape")


def format_rate(rate: float) -> str:
    """A text that `parse_rate` reads as `rate`: ``64KiB``, ``0.1``."""
    return format_size(int(rate)) if rate.is_integer() else repr(rate)


def format_duration(seconds: float) -> str:
    """A text that `parse_duration` reads as `seconds`: ``10s``, ``500ms``."""
    for unit in ("s", "ms", "us"):
        number = seconds / (_MICROSECONDS[unit] / _SECOND)
        text = f"{number:f}".rstrip("0").rstrip(".") + unit
        if number >= 1 and parse_duration(text) == seconds:
            return text
    # No float has more than 1074 decimals, so this text is exact.
    return f"{seconds:.1074f}".rstrip("0").rstrip(".") + "s"


def format_size(size: int) -> str:
    """A text that `parse_size` reads as `size`: ``64KiB``, ``1000B``."""
    for unit in ("GiB", "MiB", "KiB"):
        factor = _BYTES[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _read(text: str, units: dict[str, int], *, fold_case: bool = False) -> tuple[int, int] | None:
    """Numerator and denominator of the quantity `text`, in the smallest of `units`.

    None if `text` is no number with one of these units. The result is a fraction of whole numbers,
    because floats would make ``1.001kB`` something else than 1001 bytes.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        return None
    whole, decimals, unit = match[1], match[2] or "", match[3]
    factor = units.get(unit.lower() if fold_case else unit)
    if factor is None:
        return None
    try:
        return int(whole + decimals) * factor, 10 ** len(decimals)
    except ValueError:  # thousands of digits: see sys.set_int_max_str_digits
        return None
