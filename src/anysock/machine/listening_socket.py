"""A listening socket that accepts in fewer steps."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from anysock.machine.compiled import fast


class _OfKnownKind(socket.socket):
    """A socket that is asked for its family and its type with each peer that it accepts, and knows
    them: `socket.socket` looks them up among the enumerations each time, which is a part of what
    Python adds to accept(2) that can be spared."""

    __slots__ = ("family", "type")


def quick_to_accept(sock: socket.socket) -> socket.socket:
    """The same socket, of the same descriptor; `sock` itself is none any more."""
    family, kind, proto, timeout = sock.family, sock.type, sock.proto, sock.gettimeout()
    made: Any = _OfKnownKind(family, kind, proto, fileno=sock.detach())
    made.family, made.type = family, kind
    made.settimeout(timeout)
    return made  # type: ignore[no-any-return]


def compiled_accept(sock: socket.socket, *, blocking: bool) -> Callable[[], tuple[Any, Any]] | None:
    """What accepts from the listening socket `sock` in one system call, and returns what it has
    accepted, and None: its `peer()` is the address. It blocks, or not, as is said. To be called no
    more once `sock` is closed. None: there is nothing compiled for it.

    What was accepted is no `socket.socket`, but becomes one once more is asked of it than to be
    closed."""
    if fast is None or not isinstance(sock, _OfKnownKind) or sock.family != socket.AF_INET:
        return None
    accept = functools.partial(fast.accept, sock.fileno(), blocking)
    return lambda: (accept(), None)
