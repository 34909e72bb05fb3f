"""The log: a listener to the server's events, and how its lines are written.

Loggers: ``anysock``, and below it ``anysock.access``, which has a line for each connection that was
served, at its end; a service that wants these elsewhere gives that logger a handler of its own.

    events.py   what is said of each event
    limits.py   floods of one message
    output.py   how lines look, and where they go
"""

from anysock.telemetry.logs.events import LogEvents
from anysock.telemetry.logs.limits import MAX_PER_SECOND, FloodLimit
from anysock.telemetry.logs.output import (
    JsonFormatter,
    LogHandler,
    TextFormatter,
    configure_logging,
    flush_log,
    has_handlers,
    last_words,
    lines_lost,
)

__all__ = [
    "MAX_PER_SECOND",
    "FloodLimit",
    "JsonFormatter",
    "LogEvents",
    "LogHandler",
    "TextFormatter",
    "configure_logging",
    "flush_log",
    "has_handlers",
    "last_words",
    "lines_lost",
]
