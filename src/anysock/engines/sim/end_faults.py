"""Faults of the ends of connections, be these of TCP or Unix sockets."""

from __future__ import annotations

import errno
from typing import Final, Protocol

from anysock.engines.sim.fates import Fate
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network

# What accept(2) fails with, for want of what.
_SHORTAGES: Final = ("emfile", "enfile", "enobufs")


class End(Protocol):
    """What faults need of one end of a connection."""

    host: Host
    network: Network
    fate: Fate | None
    sndbuf: int
    rcvbuf: int

    @property
    def far(self) -> End | None: ...


def afflict(sock: End, subject: str, *, connects: bool) -> None:
    """Give one end of a connection its fate."""
    faults = sock.network.faults
    assert faults is not None
    fate = sock.fate = faults.fate(subject, connects=connects)
    if fate is not None and fate.sndbuf:
        # The system's figures are twice the program's, half of them being its own (socket(7)).
        sock.sndbuf, sock.rcvbuf = 2 * fate.sndbuf, 2 * fate.rcvbuf


def refuses(fate: Fate) -> bool:
    """Whether a connect is refused."""
    return fate.refuse is not None and fate.refuse.strikes()


def drops_syn(fate: Fate) -> bool:
    """Whether a SYN is dropped, or a Unix socket turned away, as if the backlog were full."""
    return fate.backlog is not None and fate.backlog.strikes()


def shortage(host: Host, first: End) -> int:
    """What the host is short of, now that `first` is accepted: an error number; 0: nothing."""
    network = host.network
    now = network.now
    if now < host.short_until:
        return host.short_of
    far = first.far
    if far is not None and far.fate is not None:
        for name in _SHORTAGES:
            strikes = getattr(far.fate, name)
            if strikes is not None and (seconds := strikes.pause()):
                host.short_of = getattr(errno, name.upper())
                host.short_until = now + seconds
                network.note(host.name, name, seconds)
                return host.short_of
    return 0
