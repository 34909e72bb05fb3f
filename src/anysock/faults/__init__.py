"""Faults on purpose, for people who test their clients: each a Stream around a Stream.

One small file a fault. They compose, and the server knows nothing of them: `with_faults` puts them
around the connection of a handler. Data that a handler sends passes through them in this order:

    corrupt.py       a byte of it is changed
    close_after.py   it ends, in good order, after a number of bytes
    delay.py         it waits
    slice.py         it is cut in pieces
    throttle.py      it leaves at a limited rate
    reset_after.py   after a number of bytes, a reset; last, since these bytes have then really left

timed.py and ending.py are their bases. A connection that half_open.py has chosen is dead from its
beginning, and has no other faults. fail_on.py checks the received data, and lets the handler fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions
    from anysock.streams.connection import Connection

_OPTIONS = (
    "delay",
    "jitter",
    "throttle",
    "slice",
    "reset_after",
    "close_after",
    "corrupt",
    "half_open",
    "fail_on",
)


def with_faults(
    handler: Callable[[Connection], Awaitable[object]], options: ServeOptions
) -> Callable[[Connection], Awaitable[object]]:
    """`handler`, for connections with the faults that `options` ask for; itself without any."""
    # 0 is a number of bytes for those whose default is None.
    if all(getattr(options, name) == getattr(type(options), name) for name in _OPTIONS):
        return handler
    # Imported here, so that a server without faults does not pay for them.
    from anysock.faults.compose import faulty

    return faulty(handler, options)
