"""What a simulated socket knows that no program is told."""

from __future__ import annotations

from typing import Any


def socket_below(stream: Any) -> Any:
    """The simulated socket of TCP below `stream`, or below a connection; None where it is another
    one."""
    while (inner := getattr(stream, "_inner", None) or getattr(stream, "stream", None)) is not None:
        stream = inner
    sock = getattr(stream, "_sock", None)
    return sock if hasattr(sock, "taken_at") else None
