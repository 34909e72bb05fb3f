"""Where tables go."""

from __future__ import annotations

from rich.console import Console

# What the widest table takes.
_WIDE = 118


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal, as wide as it is; a file or a pipe gets whole tables, however wide."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDE)
