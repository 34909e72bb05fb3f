"""How the lines of the log look, and where they go: to standard error, by way of a `LineWriter`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from typing import TextIO

from anysock.machine.line_writer import LineWriter, write_if_heard
from anysock.net.printable import printable, printable_values
from anysock.telemetry.logs.limits import FloodLimit, left_out_note

_log = logging.getLogger("anysock")
# Programs that start the server wait for these lines, whatever the level of the rest.
_ready_log = logging.getLogger("anysock.ready")

# Seconds that the very last line may take: while nobody reads, and in all.
_LAST_STUCK_SECONDS = 0.3
_LAST_SECONDS = 2.0


class LogHandler(logging.Handler):
    """Formats each record, and hands the text to `writer`; at most as many as `limit` lets pass, if
    there is one.

    The record is formatted at once, on the thread that logs: its arguments may change, and its
    traceback would keep sockets alive.
    """

    def __init__(self, writer: LineWriter, limit: FloodLimit | None = None) -> None:
        super().__init__()
        self.writer = writer
        self._limit = limit
        if limit is not None:
            self.addFilter(limit)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._limit is not None:
                for late in self._limit.owing(record.created):
                    self.writer.put(self.format(late))
            self.writer.put(self.format(record))
        except Exception:  # noqa: BLE001
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The record can't be formatted. (The method of `logging.Handler` writes to standard error
        directly, and blocks.)"""
        text = f"a line of the log can't be formatted, {record.msg!r}: {traceback.format_exc()}"
        failed = logging.LogRecord(record.name, logging.ERROR, "", 0, "%s", (text,), None)
        self.writer.put(self.format(failed))

    def close(self) -> None:
        # logging.shutdown() comes here when the process ends.
        if self._limit is not None:
            for late in self._limit.owing():
                self.writer.put(self.format(late))
        self.writer.flush()
        super().close()


class TextFormatter(logging.Formatter):
    """The message, with the level before it where something needs attention (without `with_level`,
    never: so Python writes what has no handler); with `with_time`, the time before that (ISO 8601,
    local, with its offset).

    A record is one line, whatever its message contains; a traceback follows on lines that are
    indented (so does the rest of a message of several lines of our own:
    ``extra={"of_lines": True}``).
    """

    def __init__(self, *, with_time: bool = False, with_level: bool = True) -> None:
        super().__init__()
        self._with_time = with_time
        self._with_level = with_level

    def format(self, record: logging.LogRecord) -> str:
        keep = "\n" if getattr(record, "of_lines", False) else ""
        text = printable(record.getMessage(), keep) + left_out_note(getattr(record, "left_out", 0))
        if getattr(record, "of_handler", False):
            whose = record.__dict__
            text = f"{printable(str(whose['peer']))} [{whose['connection']}]: {text}"
        if self._with_level and record.levelno > logging.INFO:
            text = f"{record.levelname.lower()}: {text}"
        if self._with_time:
            text = f"{_local_time(record.created)} {text}"
        more = _more(self, record)
        first, *others = [*text.split("\n"), *more.splitlines()]
        return "\n".join([first, *(f"  {line}" for line in others)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message; peer, connection (its id) and
    error where known.

    An access line also has ``via``, ``reason``, ``seconds``, ``bytes_in`` and ``bytes_out``. A
    record that follows others which a `FloodLimit` left out has their number, ``left_out``. Texts
    are `printable`; ``error``, a traceback, keeps its line ends.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{seconds}.{_milliseconds(record.created):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("peer", "connection"):
            value = getattr(record, name, None)
            if value is not None:
                entry[name] = value
        entry |= getattr(record, "fields", {})
        entry = printable_values(entry)
        if left_out := getattr(record, "left_out", 0):
            entry["left_out"] = left_out
        if more := _more(self, record):
            entry["error"] = more
        return json.dumps(entry)


def _more(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of a record, or the stack where it was logged; empty if there is neither."""
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return printable("\n".join(parts).rstrip("\n"), keep="\n")


def _local_time(seconds: float) -> str:
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return f"{text}.{_milliseconds(seconds):03d}{offset[:3]}:{offset[3:5]}"


def _milliseconds(seconds: float) -> int:
    return int(seconds % 1 * 1000)


# -- where it goes ---------------------------------------------------------------------------------

# The handler that `configure_logging` has made.
_handler: LogHandler | None = None


def has_handlers() -> bool:
    """Whether the program has said where Anysock's log goes."""
    return _log.hasHandlers()


def configure_logging(level: str, format: str, with_time: bool | None = None) -> None:
    """Write the log of Anysock to standard error, from `level` on, as ``text`` or ``json``.

    Lines of text begin with the time, if `with_time`; None decides as `wants_time` does. Floods of
    one message are limited (`FloodLimit`), unless `level` is ``debug``, which shows everything.
    Logging never blocks on the output (`LineWriter`). Other loggers that the program has given no
    handler are written the same way, from warnings on.
    """
    global _handler
    _log.setLevel(level.upper())
    _log.propagate = False
    _ready_log.setLevel(logging.INFO)
    stream = sys.stderr
    if stream is None:  # closed when the process began
        _log.addHandler(logging.NullHandler())
        return
    if with_time is None:
        with_time = wants_time(stream)
    formatter: logging.Formatter
    formatter = JsonFormatter() if format == "json" else TextFormatter(with_time=with_time)
    writer = LineWriter(stream, lambda number: formatter.format(_lines_lost_record(number)))
    limit = None if level == "debug" else FloodLimit()
    _handler = LogHandler(writer, limit)
    _handler.setFormatter(formatter)
    _log.addHandler(_handler)
    others = LogHandler(writer, limit)
    others.setFormatter(
        formatter if format == "json" else TextFormatter(with_time=with_time, with_level=False)
    )
    others.setLevel(logging.WARNING)
    logging.lastResort = others


def wants_time(stream: TextIO) -> bool:
    """Whether lines need a time: not at a terminal, where somebody sees them come, nor in systemd's
    journal, which adds it ($JOURNAL_STREAM, systemd.exec(5))."""
    try:
        if stream.isatty():
            return False
        status = os.fstat(stream.fileno())
    except (OSError, AttributeError, ValueError):
        return True  # an object that the program has put there
    return os.environ.get("JOURNAL_STREAM") != f"{status.st_dev}:{status.st_ino}"


def lines_lost() -> int:
    """How many log lines were lost: nobody read them in time, or they could not be written."""
    return 0 if _handler is None else _handler.writer.lost


def flush_log() -> None:
    """Wait until the log is written, as long as somebody reads it (`LineWriter.flush`)."""
    if _handler is not None:
        _handler.writer.flush()


def last_words(text: str, level: int = logging.INFO) -> None:
    """Write one more line, whatever the level of the log, before the process ends at once. For
    signal handlers: whatever was interrupted, it blocks for a moment at most, also if nobody reads
    the log."""
    if _handler is None:
        write_if_heard(text)
        return
    said = logging.LogRecord(_log.name, level, "", 0, text, (), None)
    _handler.writer.put(_handler.format(said), last=True)
    _handler.writer.flush(_LAST_STUCK_SECONDS, _LAST_SECONDS)


def _lines_lost_record(number: int) -> logging.LogRecord:
    text = "%d line%s of the log could not be written, or not fast enough, and %s lost"
    args = (number, *(("", "is") if number == 1 else ("s", "are")))
    return logging.LogRecord(_log.name, logging.WARNING, "", 0, text, args, None)
