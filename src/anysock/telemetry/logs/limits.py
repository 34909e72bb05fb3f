"""Floods of one message: some of it is logged, and the rest is counted."""

from __future__ import annotations

import logging
import math
import re
import threading
from dataclasses import dataclass

#: Maximum of log records of one kind per second. Enough to see what happens, and that it goes on;
#: nobody reads more tracebacks, and a full disk ends more than the log.
MAX_PER_SECOND = 10

# What stands for an argument in a message of `logging` (printf-style formatting).
_ARGUMENT = r"%[-#0 +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z]"
# Several without a word between them are one gap.
_GAP = re.compile(f"(?:{_ARGUMENT})+")


_ACCESS = "anysock.access"


def left_out_note(number: int) -> str:
    """A note that this number of records was left out; empty if none was."""
    if not number:
        return ""
    return f" ({number} like this {'was' if number == 1 else 'were'} not told)"


@dataclass
class _Second:
    """The records of one kind within a second."""

    # Not the record: its traceback holds frames, and these their sockets.
    logger: str
    level: int
    #: The part of the message that they have in common.
    text: str
    began: float
    passed: int = 1
    left_out: int = 0


class FloodLimit(logging.Filter):
    """Lets at most `most` log records of one kind pass per second, by the times of the records.

    Records are of one kind if they have the same message, before its arguments are put in, and the
    same class of exception. The next record that passes carries the number of those left out
    (`record.left_out`); `owing` makes records for numbers that no record has carried.

    Lines of the access log are not limited: there is one for each connection that was served, so
    ``--max-connections`` and ``--accept-rate`` bound them, and with gaps they could not be relied
    on; ``--no-access-log`` turns them off. Records below INFO are not limited either: they only
    come when somebody has asked to see everything.
    """

    def __init__(self, most: int = MAX_PER_SECOND) -> None:
        super().__init__()
        self._most = most
        self._seconds: dict[tuple[object, ...], _Second] = {}
        self._lock = threading.RLock()  # a signal handler may log, too

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO or record.name == _ACCESS:
            return True
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.levelno, str(record.msg), error)
        with self._lock:
            second = self._seconds.get(kind)
            # A wall clock that was set back begins a new second.
            if second is None or not 0 <= record.created - second.began < 1:
                self._seconds[kind] = _Second(
                    record.name, record.levelno, _in_common(record), record.created
                )
                record.__dict__["left_out"] = 0 if second is None else second.left_out
                return True
            second.passed += 1
            if second.passed <= self._most:
                return True
            second.left_out += 1
            return False

    def owing(self, now: float = math.inf) -> list[logging.LogRecord]:
        """Records that say how many were left out, for each kind whose second is over by `now`
        (seconds since 1970) and whose number no record has carried."""
        with self._lock:
            over = [kind for kind, second in self._seconds.items() if now - second.began >= 1]
            past = [self._seconds.pop(kind) for kind in over]
        return [_left_out(second) for second in past if second.left_out]


def _in_common(record: logging.LogRecord) -> str:
    """The part of the message of `record` that its kind has in common: all but the arguments."""
    text = str(record.msg)
    return _GAP.sub("...", text).replace("%%", "%") if record.args else text


def _left_out(second: _Second) -> logging.LogRecord:
    number = second.left_out
    text = f"%d like this {'was' if number == 1 else 'were'} not told: %s"
    return logging.LogRecord(second.logger, second.level, "", 0, text, (number, second.text), None)
