"""Keys as they are pressed, in a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Iterator

# What terminals send for keys that are no characters: those of xterm, in both of its modes.
_SEQUENCES = {
    "[A": "up", "[B": "down", "OA": "up", "OB": "down", "[5~": "page up", "[6~": "page down",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end",
}  # fmt: skip
_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}

_KEY = re.compile("\x1b(?:\\[[0-9;]*[A-Za-z~]|O[A-Za-z])|.", re.DOTALL)


@contextlib.contextmanager
def keys_at_once() -> Iterator[int]:
    """Within the block, standard input gives keys as they are pressed, and shows none of them; the
    block gets its descriptor. Ctrl-Z is off: it would leave a half-drawn screen behind."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        now = termios.tcgetattr(descriptor)
        now[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSANOW, now)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def wait_for_keys(descriptor: int, other: int, seconds: float) -> list[str] | None:
    """The keys that are pressed within `seconds`, or until `other` is readable, which is emptied;
    none may be. None: there will be no more, the terminal is gone."""
    ready, _, _ = select.select([descriptor, other], [], [], seconds)
    if other in ready:
        os.read(other, 4096)
    if descriptor not in ready:
        return []
    try:
        data = os.read(descriptor, 4096)
    except OSError:
        return None
    return keys_of(data.decode(errors="ignore")) if data else None


def keys_of(text: str) -> list[str]:
    """The keys that a terminal has sent: each a character, or a name such as ``up``.

    >>> keys_of("q\\x1b[A\\r\\x1b")
    ['q', 'up', 'enter', 'escape']
    """
    found = []
    for key in _KEY.findall(text):
        if key == "\x1b":
            found.append("escape")
        elif key[0] == "\x1b":
            found.append(_SEQUENCES.get(key[1:], ""))
        else:
            found.append(_NAMES.get(key, key))
    return [key for key in found if key]
