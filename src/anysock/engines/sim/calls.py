"""The system calls that each message makes: on a descriptor, of the host whose turn it is."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from anysock.engines.sim import here
from anysock.engines.sim.host import Opened
from anysock.engines.sim.sockets import fail


def of(fd: int) -> Opened:
    """What a descriptor stands for. Raises OSError, EBADF."""
    opened: Opened
    try:
        # `here()`, written out: each message passes here.
        opened = here.current.sockets[fd]
    except KeyError:
        here.check_owner(fd)
        fail(errno.EBADF)
    except AttributeError:
        opened = here.here().sockets[fd]
    return opened


def read(fd: int, size: int) -> bytes:
    return of(fd).recv(size)


def write(fd: int, data: Any) -> int:
    return of(fd).send(data)


def writev(fd: int, pieces: Sequence[Any]) -> int:
    return of(fd).writev(pieces)
