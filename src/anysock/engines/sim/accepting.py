"""accept(2), the same for all sockets that listen."""

from __future__ import annotations

import collections
import errno
from typing import Protocol, TypeVar

from anysock.engines.sim import end_faults
from anysock.engines.sim.host import Host
from anysock.engines.sim.sockets import fail


class Peer(end_faults.End, Protocol):
    """A connection that waits in the backlog."""

    fd: int


PeerT = TypeVar("PeerT", bound=Peer)


class Listening(Protocol[PeerT]):
    """What listens."""

    host: Host
    waiting: collections.deque[PeerT]

    def check_open(self) -> None: ...


def accept(listener: Listening[PeerT], *, listens: bool) -> PeerT:
    """The first of those that wait, with a descriptor of its own. Raises OSError."""
    listener.check_open()
    host = listener.host
    # Where there is no descriptor, accept(2) says so before it looks for a peer.
    if len(host.sockets) >= host.descriptors:
        fail(errno.EMFILE)
    if not listens:
        fail(errno.EINVAL)
    if not listener.waiting:
        fail(errno.EAGAIN)
    child = listener.waiting[0]
    if host.network.faults is not None and (short_of := end_faults.shortage(host, child)):
        fail(short_of)
    listener.waiting.popleft()
    child.fd = host.open(child)
    return child
