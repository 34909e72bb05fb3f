"""Whose turn it is."""

from __future__ import annotations

from typing import Any

from anysock.errors import UsageError

#: The host whose turn it is: system calls are its own. (A `host.Host`, which sets it.)
current: Any = None


def check_owner(fd: int) -> None:
    """Raise `UsageError` if the descriptor is another host's than that whose turn it is."""
    host = here()
    for other in host.network.hosts.values():
        if other is not host and fd in other.sockets:
            raise UsageError(
                f"this connection belongs to the host {other.name!r}, and the task that uses it "
                f"runs on {host.name!r}: spawn it by the spawn() of the other host"
            )


def here() -> Any:
    """The host whose turn it is. Raises RuntimeError where no simulation runs."""
    if current is None:
        raise RuntimeError("no simulated host has its turn")
    return current
