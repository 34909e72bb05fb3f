"""What systemd tells a service, and what it wants to be told: socket activation and notification.

Both are words in the environment and bytes in a socket (sd_listen_fds(3), sd_notify(3)); no library
of systemd's is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from anysock.errors import StartError, UsageError
from anysock.net.addresses import Address

# The first descriptor that is handed over (sd_listen_fds(3)).
FIRST_FD = 3


def inherited() -> list[tuple[str, int]]:
    """The sockets that systemd has handed over to this process: their names and descriptors.

    None are, unless LISTEN_PID says that they are for us, and not for a parent of ours.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(os.environ.get("LISTEN_FDS", ""))
    except ValueError:
        raise StartError("LISTEN_FDS in the environment is no number") from None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    names += ["unknown"] * (count - len(names))
    return [(names[place] or "unknown", FIRST_FD + place) for place in range(count)]


def expand(addresses: Iterable[Address]) -> list[Address]:
    """`addresses`, with each ``systemd://`` replaced by what was handed over under that name.

    Raises `StartError` when nothing was.
    """
    expanded: list[Address] = []
    for address in addresses:
        if address.kind != "systemd":
            expanded.append(address)
            continue
        handed = inherited()
        if not handed:
            raise StartError(
                f"{address}: systemd has handed over no socket (LISTEN_PID, LISTEN_FDS); is a "
                ".socket unit of the same name started?"
            )
        scheme = "tls+fd" if address.tls else "fd"
        found = [Address(scheme=scheme, fd=fd) for name, fd in handed if address.name in ("", name)]
        if not found:
            names = ", ".join(sorted({name for name, _ in handed}))
            raise StartError(f"{address}: no socket has that name, only {names}")
        expanded += found
    if len({address.fd for address in expanded if address.kind == "fd"}) < sum(
        address.kind == "fd" for address in expanded
    ):
        raise UsageError("--bind: one descriptor is named twice")
    return expanded
