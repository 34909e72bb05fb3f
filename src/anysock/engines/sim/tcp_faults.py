"""Faults of connections: what those that strike do to its ends."""

from __future__ import annotations

import errno
from typing import Any, Protocol

from anysock.engines.sim.fates import Fate
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network

# What accept(2) fails with, for want of what.
_SHORTAGES = ("emfile", "enfile", "enobufs")


class End(Protocol):
    """What faults need of one end of a connection, be it a `tcp.TcpSocket` or a Unix socket."""

    host: Host
    network: Network
    fate: Fate | None
    sndbuf: int
    rcvbuf: int

    @property
    def far(self) -> End | None: ...


class TcpEnd(End, Protocol):
    """What faults need of a `tcp.TcpSocket`."""

    local: tuple[Any, ...] | None
    peer: tuple[Any, ...] | None
    options: dict[tuple[int, int], int]
    in_size: int
    severed: bool
    corked: bool
    sends_at: float
    reads_at: float

    @property
    def far(self) -> TcpEnd | None: ...
    @property
    def sending_over(self) -> bool: ...

    def changed(self) -> None: ...
    def push_on(self) -> None: ...
    def break_off(self) -> None: ...
    def sever(self) -> None: ...
    def time_out(self) -> None: ...


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


def readable_part(sock: TcpEnd, fate: Fate, size: int) -> int:
    """How much of `size` bytes a receive returns, when there is something."""
    there = sock.in_size
    part = min(size, there)
    if fate.short is not None:
        part = fate.short.cut(part)
    slow = fate.slow_reader
    if slow is not None and slow.bytes < there and (seconds := slow.pause()):
        part = min(part, slow.bytes)
        sock.reads_at = sock.network.now + seconds
        sock.network.at(sock.reads_at, sock.changed)
    return part


def sendable_part(sock: TcpEnd, fate: Fate, size: int) -> int:
    """How much of `size` bytes a send takes, when there is room for them."""
    if sock.corked:
        # It comes with what was kept for it.
        sock.corked, sock.sends_at = False, 0.0
    elif sock.sends_at <= sock.network.now:
        fate.waited = False
    return fate.partial.cut(size) if fate.partial is not None else size


def segment(sock: TcpEnd, fate: Fate, size: int) -> tuple[int, float]:
    """How large the next segment is, of at most `size` bytes, and how many seconds after it the
    next may come; 0 bytes: none is sent now."""
    network = sock.network
    if fate.reset is not None and not sock.severed and fate.reset.strikes():
        network.note(sock.host.name, "reset", sock.peer, sock.local)
        sock.break_off()
        return 0, 0.0
    if fate.half_open is not None and not sock.severed and fate.half_open.strikes():
        network.note(sock.host.name, "half-open", sock.peer, sock.local)
        sock.sever()
        network.severed.append(sock)
    if fate.waited:
        return _cut(fate, size)
    seconds = fate.zero_window.pause() if fate.zero_window is not None else 0.0
    if seconds:
        network.note(sock.host.name, "zero-window", sock.peer, sock.local, seconds)
    if not seconds and fate.merge is not None and not sock.sending_over:
        seconds = fate.merge.pause()
        sock.corked = seconds > 0
    if seconds:
        fate.waited = True
        sock.sends_at = network.now + seconds
        network.at(sock.sends_at, sock.push_on)
        return 0, 0.0
    return _cut(fate, size)


def _cut(fate: Fate, size: int) -> tuple[int, float]:
    if fate.split is not None and (part := fate.split.cut(size)) < size:
        return part, fate.split.seconds("gap")
    return size, 0.0
