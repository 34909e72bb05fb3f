"""Where tables go."""

from __future__ import annotations

import os

from rich.console import Console

# What the widest table takes, of those that have a few columns and not too many words.
_WIDE = 118

# In a terminal that does not say how wide it is.
_UNTOLD = 80


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal, as wide as it is; a file or a pipe gets lines that are long enough for most
    tables, however narrow the terminal is, and longer ones where ``COLUMNS`` says so."""
    console = Console(stderr=stderr)
    if not console.is_terminal:
        return Console(stderr=stderr, width=max(_WIDE, _told()))
    if console.is_dumb_terminal:
        # rich takes any such for one of 80 columns.
        return Console(stderr=stderr, width=_columns(2 if stderr else 1), height=25)
    return console


def _columns(descriptor: int) -> int:
    """How wide the terminal at `descriptor` is, or as ``COLUMNS`` says."""
    if told := _told():
        return told
    try:
        return os.get_terminal_size(descriptor).columns or _UNTOLD
    except OSError:
        return _UNTOLD


def _told() -> int:
    """What ``COLUMNS`` says; 0: nothing."""
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 6 else 0
