"""Output in an encoding that has not all of our characters."""

from __future__ import annotations

import codecs
import io
import sys

_PLAIN = {"µ": "u", "–": "-", "×": "x", "±": "+-", "…": "...", "─": "-"}


def take_any_character() -> None:
    """Let standard output and standard error take every character: where the locale, or
    ``PYTHONIOENCODING``, has none for it, it is written as one would type it, or as a backslash
    escape. Python's own output raises UnicodeEncodeError."""
    codecs.register_error("anysock.plain", _in_plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.startswith("utf"):
            stream.reconfigure(errors="anysock.plain")


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    told = (_PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in wrong)
    return "".join(told), error.end
