"""Floods of one message: some of it is logged, and the rest is counted."""

from __future__ import annotations

import logging
import math
import re
import threading
from dataclasses import dataclass

#: How many log records of one kind pass in a second. Enough to see what it is, and that it goes
#: on; more tracebacks nobody reads, and a full disk ends more than the log.
MOST_A_SECOND = 10

# What stands for an argument in a message of `logging` (printf-style formatting).
_ARGUMENT = r"%[-#0 +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z]"
# Several without a word between them are one gap.
_GAP = re.compile(f"(?:{_ARGUMENT})+")


_ACCESS = "anysock.access"


def not_told(number: int) -> str:
    """In words, that so many were left out; nothing when none were."""
    if not number:
        return ""
    return f" ({number} like this {'was' if number == 1 else 'were'} not told)"


@dataclass
class _Second:
    """What has come of one kind of record within a second."""

    # Not the record: its traceback holds frames, and these their sockets.
    logger: str
    level: int
    #: What they have in common.
    text: str
    began: float
    passed: int = 1
    left_out: int = 0


class FloodLimit(logging.Filter):
    """Lets `most` log records of one kind pass in a second.

    Of one kind are those with the same message, before its arguments are put in, and the same kind
    of exception. The next that passes has the number of those left out (`record.left_out`);
    `owing` makes records of the numbers that none has told.

    Not limited are the lines of the access log: there is one a connection that was served, so
    ``--max-connections`` and ``--accept-rate`` bound them, and with gaps they could not be counted
    on; who does not want them turns them off. Nor what is below INFO, which only comes when
    somebody has asked to see everything.
    """

    def __init__(self, most: int = MOST_A_SECOND) -> None:
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
        """Records that tell how many were left out, of the kinds whose second is over by `now`
        (seconds since 1970) without a word of them."""
        with self._lock:
            over = [kind for kind, second in self._seconds.items() if now - second.began >= 1]
            past = [self._seconds.pop(kind) for kind in over]
        return [_left_out(second) for second in past if second.left_out]


def _in_common(record: logging.LogRecord) -> str:
    """What the message of `record` has in common with those of its kind: all but its arguments."""
    text = str(record.msg)
    return _GAP.sub("...", text).replace("%%", "%") if record.args else text


def _left_out(second: _Second) -> logging.LogRecord:
    number = second.left_out
    told = f"%d like this {'was' if number == 1 else 'were'} not told: %s"
    return logging.LogRecord(second.logger, second.level, "", 0, told, (number, second.text), None)
