"""The log: the access line of a connection, and floods that are limited."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.machine.line_writer import LineWriter
from anysock.net.printable import printable
from anysock.options.serve import ServeOptions
from anysock.telemetry.events import CloseReason
from anysock.telemetry.logs import (
    MAX_PER_SECOND,
    FloodLimit,
    JsonFormatter,
    LogEvents,
    LogHandler,
    TextFormatter,
)


class FakeConnection:
    peer: Any = ("192.0.2.7", 4711)
    id = "99-17"
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
        "connection": "99-17",
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
    assert passed == [True] * MAX_PER_SECOND + [False] * (50 - MAX_PER_SECOND)
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
    for place in "ab":
        handler.handle(record("the handler failed for %s%s", place, ": why", at=1006))
    handler.close()
    assert stream.getvalue().splitlines() == [
        "error: lost a (1.00 %)",
        # Not the one that was told, which is not one of them.
        "error: 2 like this were not told: lost ... (... %)",
        "error: another",
        "error: 1 like this was not told: another",
        "error: the handler failed for a: why",
        "error: 1 like this was not told: the handler failed for ...",
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
from anysock.telemetry.logs import configure_logging
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


# -- what others have written ----------------------------------------------------------------------

# What a peer may be called, and what an error may quote: whatever there is, and what does harm.
ANYTHING = st.text(
    st.one_of(
        st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "L")),
        st.sampled_from("\n\r\x1b\x00\x85\u2028\u202e\udcff\x9b"),
    ),
    max_size=40,
)


def said(formatter: logging.Formatter, tell: Callable[[LogEvents, Any], object], peer: Any) -> str:
    """The one line that comes of an event."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    log, keep, connection = logging.getLogger("anysock"), Keep(), FakeConnection()
    connection.peer = peer
    before, propagates = log.level, log.propagate
    log.addHandler(keep)
    log.setLevel("INFO")
    log.propagate = False
    try:
        tell(LogEvents(), connection)
    finally:
        log.removeHandler(keep)
        log.setLevel(before)
        log.propagate = propagates
    [line] = lines
    return line


TELLINGS: list[Callable[[LogEvents, Any, str], object]] = [
    lambda events, connection, _: events.connection_opened(connection),
    lambda events, connection, text: events.connection_closed(
        connection, CloseReason.LOST, OSError(text)
    ),
    lambda events, connection, text: events.connection_closed(
        connection, CloseReason.ABORTED, OSError(text)
    ),
    lambda events, connection, text: events.datagrams_refused(text, connection.peer, 1),
    lambda events, connection, text: events.reload_failed(ValueError(text)),
    lambda events, connection, text: events.handler_failed(connection, ValueError(text)),
]


@given(ANYTHING, ANYTHING, st.sampled_from(range(len(TELLINGS))), st.booleans())
def test_no_line_has_anything_of_a_peer_that_is_not_seen_as_itself(name, text, telling, named):
    peer = name if named else (name, 7)

    def tell(events: LogEvents, connection: Any) -> None:
        events._access = telling == 1  # where it would not be a second line
        TELLINGS[telling](events, connection, text)

    line = said(TextFormatter(with_time=True), tell, peer)
    first, *others = line.split("\n")
    assert first.isprintable()
    # A traceback has lines, and none can be taken for one of ours.
    assert bool(others) == (telling == 5)
    assert all(each.startswith("  ") and each.isprintable() for each in others)


def _no_constant(name: str) -> None:
    pytest.fail(f"{name} is no JSON")


@given(ANYTHING, ANYTHING, st.sampled_from(range(len(TELLINGS))), st.booleans())
def test_each_line_of_json_is_json_that_anybody_reads(name, text, telling, named):
    peer = name if named else (name, 7)

    def tell(events: LogEvents, connection: Any) -> None:
        events._access = telling == 1
        TELLINGS[telling](events, connection, text)

    line = said(JsonFormatter(), tell, peer)
    assert line.isprintable()
    assert line.isascii()

    def check(value: Any) -> None:
        if isinstance(value, str):
            value.encode()  # no lone surrogate, RFC 8259, section 8.2
            assert printable(value, "\n") == value
        elif isinstance(value, list):
            for each in value:
                check(each)

    entry = json.loads(line, parse_constant=_no_constant)
    for key, value in entry.items():
        check(value)
        assert key == "error" or "\n" not in str(value)


@given(ANYTHING)
def test_what_is_printable_stays_so_and_can_be_told_apart(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text
    if "\\" not in text:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text or (
            not text.isascii()
        )


# -- one string finds one client -------------------------------------------------------------------


@pytest.mark.parametrize("peer", [("127.0.0.1", 50096), ("::1", 50096, 0, 0), "@\x1bname"], ids=str)
def test_all_lines_of_a_connection_name_its_peer_in_the_same_way(written, peer):
    connection = FakeConnection()
    connection.peer = peer
    events: Any = LogEvents()
    events.connection_opened(connection)
    events.handler_failed(connection, ValueError())
    events.connection_closed(connection, CloseReason.WRITE_TIMEOUT, None)
    events.connection_closed(connection, CloseReason.ABORTED, None)
    events.connection_closed(connection, CloseReason.DONE, None)
    events.datagrams_refused("too fast", peer, 0)
    name = printable(str(peer))
    lines = [line for line in written.getvalue().splitlines() if not line.startswith(" ")]
    assert lines[0] == f"I got a connection from {name}"
    assert len(lines) >= 8
    assert all(name in line or line.startswith("ValueError") for line in lines)


# -- the time --------------------------------------------------------------------------------------


def test_a_line_may_begin_with_its_time(monkeypatch):
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        line = TextFormatter(with_time=True).format(record("lost", at=1769860801.0625))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line == "2026-01-31T17:30:01.062+05:30 error: lost"


def told_times(*options: str, stderr: str, **environment: str) -> list[bool]:
    """Whether the lines of a process begin with the time."""
    program = (
        "import logging, os, sys; from anysock.telemetry.logs import configure_logging; "
        "status = os.fstat(2); "
        "'journal' in sys.argv and os.environ.update("
        "JOURNAL_STREAM=f'{status.st_dev}:{status.st_ino}'); "
        "configure_logging('info', 'text', eval(sys.argv[1])); "
        "logging.getLogger('anysock').info('hello')"
    )
    reader, writer = pty.openpty() if stderr == "terminal" else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program, *options], stderr=writer, env=os.environ | environment
    ) as process:
        os.close(writer)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the end of a terminal
            while more := os.read(reader, 4096):
                said += more
        os.close(reader)
        assert process.wait() == 0
    [line] = said.decode().splitlines()
    found = re.fullmatch(r"(\S+T\S+ )?hello", line)
    assert found, line
    return [found[1] is not None]


@pytest.mark.parametrize(
    ("options", "stderr", "has_time"),
    [
        (("None",), "pipe", True),
        (("None",), "terminal", False),
        (("None", "journal"), "pipe", False),
        (("True",), "terminal", True),
        (("True", "journal"), "pipe", True),
        (("False",), "pipe", False),
    ],
)
def test_lines_have_a_time_where_nobody_else_tells_it(options, stderr, has_time):
    assert told_times(*options, stderr=stderr) == [has_time]


def test_a_journal_that_is_not_standard_error_tells_it_not():
    assert told_times("None", stderr="pipe", JOURNAL_STREAM="1:2") == [True]


# -- what can't be put into words ------------------------------------------------------------------


def test_a_record_that_can_not_be_told_is_told_as_that():
    stream = io.StringIO()
    handler = LogHandler(LineWriter(stream, str))
    handler.setFormatter(JsonFormatter())
    handler.handle(record("%d lost", "many"))
    handler.handle(record("found"))
    handler.close()
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert "a line of the log can't be formatted, '%d lost'" in first["message"]
    assert second["message"] == "found"


OTHERS = """
import logging
from anysock.telemetry.logs import configure_logging
configure_logging("info", "json")
logging.getLogger("mine").warning("of another logger\\x1b")
logging.getLogger("mine").info("not from there")
"""


def test_what_nobody_else_writes_goes_the_same_way():
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", OTHERS],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    entry = json.loads(done.stderr)
    assert (entry["logger"], entry["message"]) == ("mine", "of another logger\\x1b")


FORKED = """
import logging, os, sys
from anysock.telemetry.logs import configure_logging
configure_logging("info", "text", with_time=False)
log = logging.getLogger("anysock")
log.info("of both")
child = os.fork()
log.info("of the %s", "parent" if child else "child")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_after_a_fork_each_process_writes_its_own_lines_once():
    # From 3.12 on, Python warns of a fork beside threads. This one holds no lock at that moment.
    flags = ["-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *flags, "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert sorted(done.stderr.splitlines()) == ["of both", "of the child", "of the parent"]


def test_where_no_thread_can_be_started_lines_are_written_all_the_same(monkeypatch):
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    reader, descriptor = os.pipe()
    with os.fdopen(descriptor, "w") as stream, os.fdopen(reader) as log:
        writer = LineWriter(stream, str)
        writer.put("one")
        writer.put("two")
        assert [log.readline(), log.readline()] == ["one\n", "two\n"]
        assert writer.flush()


def test_a_log_that_others_have_made_non_blocking_loses_no_line():
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    with os.fdopen(descriptor, "w") as stream, os.fdopen(reader) as log:
        writer = LineWriter(stream, str)
        for number in range(5000):
            writer.put(f"{number:100d}")
        assert [int(log.readline()) for _ in range(5000)] == list(range(5000))
        assert writer.flush()
    assert writer.lost == 0


def test_a_thread_that_comes_late_is_waited_for_where_somebody_reads():
    """On a very busy machine; and the line that says why a process exits is the last to be lost."""
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "w") as stream:
        writer = LineWriter(stream, "{} lines were lost".format)
        go_on = threading.Event()
        write_to = writer._write
        writer._write = lambda data: (go_on.wait(5), write_to(data))[1]
        timer = threading.Timer(0.3, go_on.set)
        timer.start()
        writer.put("the last word")
        assert writer.flush(stuck=0.01, seconds=5)
        timer.join()
        assert reader.readline() == b"the last word\n"


def test_a_signal_handler_that_interrupts_whoever_has_the_lock_has_its_line_written():
    """As that of a second signal does: its line is the last, and the process ends after it."""
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "w") as stream:
        writer = LineWriter(stream, "{} lines were lost".format)
        writer.put("before")
        assert reader.readline() == b"before\n"

        flushed: list[bool] = []

        def handle(_signum: int, _frame: object) -> None:
            writer.put("the last word", last=True)
            flushed.append(writer.flush(stuck=5, seconds=5))

        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            with writer._lock:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert flushed == [True]
        assert reader.readline() == b"the last word\n"


def test_a_signal_that_comes_while_the_thread_is_started_has_its_line_written(monkeypatch):
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "w") as stream:
        writer = LineWriter(stream, "{} lines were lost".format)
        flushed: list[bool] = []

        def handle(_signum: int, _frame: object) -> None:
            writer.put("the last word", last=True)
            flushed.append(writer.flush(stuck=5, seconds=5))

        start = threading.Thread.start

        def interrupted(thread: threading.Thread) -> None:
            if not flushed and thread.name == "log":
                signal.raise_signal(signal.SIGUSR1)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", interrupted)
        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            writer.put("the first")
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert flushed == [True]
        assert (reader.readline(), reader.readline()) == (b"the first\n", b"the last word\n")
