"""Whose turn it is."""

from __future__ import annotations

from typing import Any

#: The host whose turn it is: system calls are its own. (A `host.Host`, which sets it.)
current: Any = None


def here() -> Any:
    """The host whose turn it is. Raises RuntimeError where no simulation runs."""
    if current is None:
        raise RuntimeError("no simulated host has its turn")
    return current
