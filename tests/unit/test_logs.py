"""The log: the access line of a connection, and floods that are limited."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.line_writer import LineWriter
from anysock.events import CloseReason
from anysock.logs import (
    MOST_A_SECOND,
    FloodLimit,
    JsonFormatter,
    LogEvents,
    LogHandler,
    TextFormatter,
)
from anysock.options import ServeOptions


class FakeConnection:
    peer: Any = ("192.0.2.7", 4711)
    via: Any = None
    of_proxy = False
    lasted = 1.25
    bytes_received = 12
    bytes_sent = 34


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the logger ``anysock`` writes, from debug on."""
    log = logging.getLogger("anysock")
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(TextFormatter())
    log.addHandler(handler)
    level = log.level
    log.setLevel("DEBUG")
    yield text
    log.setLevel(level)
    log.removeHandler(handler)


def access_lines(text: io.StringIO) -> list[str]:
    return re.findall(r"^.* bytes in, .*$", text.getvalue(), re.MULTILINE)


def close(events: LogEvents, reason: CloseReason, error: OSError | None = None, **of: Any) -> None:
    connection = FakeConnection()
    vars(connection).update(of)
    events.connection_closed(connection, reason, error)  # type: ignore[arg-type]


def test_a_connection_that_was_served_is_one_access_line(written):
    close(LogEvents(), CloseReason.DONE)
    assert access_lines(written) == [
        "('192.0.2.7', 4711): done after 1.250 s, 12 bytes in, 34 bytes out"
    ]


def test_a_proxy_and_an_error_are_told(written):
    close(LogEvents(), CloseReason.LOST, OSError("broken"), via=("::1", 80), peer=("::2", 9))
    [line] = access_lines(written)
    assert line == (
        "('::2', 9) via ('::1', 80): lost after 1.250 s, 12 bytes in, 34 bytes out (broken)"
    )


def test_a_unix_socket_has_an_access_line_too(written):
    close(LogEvents(), CloseReason.DONE, peer="unix")
    assert access_lines(written)[0].startswith("unix: done")


def test_without_a_byte_it_is_told_at_debug_only(written):
    close(LogEvents(), CloseReason.NO_DATA, bytes_received=0, bytes_sent=0)
    assert len(access_lines(written)) == 1
    logging.getLogger("anysock").setLevel("INFO")
    close(LogEvents(), CloseReason.NO_DATA, bytes_received=0, bytes_sent=0)
    assert len(access_lines(written)) == 1


@pytest.mark.parametrize("reason", [CloseReason.DENIED, CloseReason.OVERFLOW])
def test_who_is_closed_at_the_door_is_a_warning_and_no_access_line(written, reason):
    close(LogEvents(), reason)
    assert not access_lines(written)
    assert f"warning: closed the connection from ('192.0.2.7', 4711): {reason.value}" in (
        written.getvalue()
    )


def test_options_turn_them_off(written):
    close(LogEvents.of(ServeOptions(access_log=False)), CloseReason.DONE)
    assert not access_lines(written)
    events = LogEvents.of(ServeOptions(production=True))
    events.connection_opened(FakeConnection())  # type: ignore[arg-type]
    close(events, CloseReason.DONE)
    assert "I got a connection" not in written.getvalue()
    assert len(access_lines(written)) == 1


def test_as_json_an_access_line_has_its_fields():
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    log = logging.getLogger("anysock.access")
    keep = Keep()
    log.addHandler(keep)
    log.setLevel("INFO")
    try:
        close(LogEvents(), CloseReason.WRITE_TIMEOUT, via=("10.0.0.1", 99))
    finally:
        log.removeHandler(keep)
        log.setLevel("NOTSET")
    entry = json.loads(JsonFormatter().format(records[0]))
    del entry["time"]
    assert entry == {
        "level": "info",
        "logger": "anysock.access",
        "message": "('192.0.2.7', 4711) via ('10.0.0.1', 99): write timeout after 1.250 s, "
        "12 bytes in, 34 bytes out",
        "peer": ["192.0.2.7", 4711],
        "via": ["10.0.0.1", 99],
        "reason": "write_timeout",
        "seconds": 1.25,
        "bytes_in": 12,
        "bytes_out": 34,
    }


# -- floods -------------------------------------------------------------------------------------


def record(
    message: str = "the handler failed for %s",
    *args: object,
    at: float = 1000.0,
    name: str = "anysock",
    level: int = logging.ERROR,
    error: BaseException | None = None,
) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord(name, level, "", 0, message, args, exc_info)
    made.created = at
    return made


def test_so_many_of_one_kind_pass_in_a_second_and_the_next_tells_the_rest():
    limit = FloodLimit()
    passed = [limit.filter(record("%s", place, at=1000 + place / 100)) for place in range(50)]
    assert passed == [True] * MOST_A_SECOND + [False] * (50 - MOST_A_SECOND)
    following = record("%s", 50, at=1001.5)
    assert limit.filter(following)
    assert TextFormatter().format(following) == "error: 50 (40 like this were not told)"
    assert json.loads(JsonFormatter().format(following))["left_out"] == 40
    again = record("%s", 51, at=1001.6)
    assert limit.filter(again)
    assert TextFormatter().format(again) == "error: 51"
    assert not limit.owing()


def test_other_messages_and_other_exceptions_are_of_another_kind():
    limit = FloodLimit(most=1)
    assert limit.filter(record("a"))
    assert not limit.filter(record("a"))
    assert limit.filter(record("b"))
    assert limit.filter(record("a", level=logging.WARNING))
    assert limit.filter(record("a", error=ValueError()))
    assert limit.filter(record("a", error=KeyError()))
    assert not limit.filter(record("a", error=KeyError()))


def test_access_lines_and_debug_are_not_limited():
    limit = FloodLimit(most=1)
    for _ in range(5):
        assert limit.filter(record(name="anysock.access", level=logging.INFO))
        assert limit.filter(record(level=logging.DEBUG))


def test_a_clock_that_is_set_back_leaves_nothing_out_for_ever():
    limit = FloodLimit(most=1)
    assert limit.filter(record(at=1000))
    assert not limit.filter(record(at=1000.5))
    assert limit.filter(record(at=500))


def test_what_nobody_told_is_told_with_any_later_line_and_at_the_end():
    stream = io.StringIO()
    handler = LogHandler(LineWriter(stream, str), FloodLimit(most=1))
    handler.setFormatter(TextFormatter())
    for place in "abc":
        handler.handle(record("lost %s (%.2f %%)", place, 1))
    handler.handle(record("another", at=1005))
    handler.handle(record("another", at=1005.1))
    handler.close()
    assert stream.getvalue().splitlines() == [
        "error: lost a (1.00 %)",
        # Not the one that was told, which is not one of them.
        "error: 2 like this were not told: lost ... (... %)",
        "error: another",
        "error: 1 like this was not told: another",
    ]


def test_no_traceback_is_kept():
    class Held(Exception):
        pass

    limit = FloodLimit(most=1)
    error = Held()
    held = weakref.ref(error)
    for _ in range(2):
        limit.filter(record("failed", error=error))
    del error
    assert held() is None


@given(
    st.lists(
        st.tuples(st.floats(-0.5, 2, allow_nan=False), st.sampled_from(["a %s", "b %s"])),
        max_size=80,
    )
)
def test_each_record_is_told_or_counted(steps):
    limit = FloodLimit(most=2)
    at, told, counted = 1000.0, 0, 0
    for step, message in steps:
        at += step
        late = limit.owing(at)
        each = record(message, "x", at=at)
        if limit.filter(each):
            told += 1
            counted += each.__dict__.get("left_out", 0)
        counted += sum(int(str(one.getMessage()).split()[0]) for one in late)
    counted += sum(int(str(one.getMessage()).split()[0]) for one in limit.owing())
    assert told + counted == len(steps)


PROGRAM = """
import logging, sys
from anysock.logs import configure_logging
configure_logging(sys.argv[1], "text", with_time=False)
for number in range(1000):
    logging.getLogger("anysock").warning("flood %d", number)
"""


@pytest.mark.parametrize(("level", "least", "most"), [("info", 11, 80), ("debug", 1000, 1000)])
def test_at_the_end_of_a_process_all_are_told_or_counted(level, least, most):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, level],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert least <= len(lines) <= most
    left_out = sum(
        int(number) for number in re.findall(r"(\d+) (?:records )?like this", done.stderr)
    )
    told = sum(line.startswith("warning: flood") for line in lines)
    assert told + left_out == 1000
