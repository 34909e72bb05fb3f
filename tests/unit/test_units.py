from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.errors import UsageError
from anysock.options.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5m", 90),
        ("2h", 7200),
        ("10", 10),
        (".5", 0.5),
        ("250us", 0.00025),
        (" 3 s ", 3),
        (0, 0),
        (2.5, 2.5),
        ("1.1ms", 0.0011),
        ("0.1us", 1e-7),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *["", "s", ".", "5.", "-1", "1d", "1 s s", "nan", "inf", "1e3", "9" * 400, "9" * 5000],
        *[-1, float("nan"), float("inf"), 10**400, True, None],
    ],
)
def test_what_is_no_duration(text):
    with pytest.raises(UsageError, match="expected a number of seconds"):
        parse_duration(text)


@given(st.floats(min_value=0, allow_infinity=False))
def test_a_formatted_duration_reads_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(max_size=20) | st.from_regex(r"[0-9.]+ ?[a-zA-Z]{0,3}"))
def test_any_text_is_a_duration_and_a_size_or_a_usage_error(text):
    for parse in (parse_duration, parse_size):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert 0 <= value < float("inf")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("1GiB", 1 << 30),
        ("64kB", 64000),
        ("2mb", 2_000_000),
        ("10B", 10),
        ("0", 0),
        ("1.5KiB", 1536),
        (7, 7),
        ("1.001kB", 1001),
        ("9007199254740993.0", 9007199254740993),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *["", "KiB", "-1", "1.5", "1.0001KiB", "4503599627370496.0005KiB", "64k"],
        *["9" * 5000, "9" * 400 + ".5", -1, 1.5, True, None],
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="expected a number of bytes"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10_000_000))
def test_three_decimals_of_a_thousand_are_whole(size):
    """Floats would make 1000.9999999999999 of some."""
    assert parse_size(f"{size // 1000}.{size % 1000:03}kB") == size


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_formatted_size_reads_the_same(size):
    assert parse_size(format_size(size)) == size
