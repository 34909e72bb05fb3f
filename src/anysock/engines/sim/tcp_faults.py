"""Faults of a TCP connection: what those that strike do to one of its ends."""

from __future__ import annotations

from typing import Any

from anysock.engines.sim.fates import Fate
from anysock.engines.sim.host import Host
from anysock.engines.sim.tcp_way import NO_SEND, TcpWay


class TcpFaults(TcpWay):
    """What goes wrong where bytes are taken and given; `tcp_end.TcpEnd` says when they are."""

    __slots__ = ("corked", "in_size", "reads_at", "sends_at")

    def __init__(self, host: Host, family: Any) -> None:
        super().__init__(host, family)
        #: How many bytes have come and were not read.
        self.in_size = 0
        #: From when on it sends, and reads, again; and whether the next send is waited for.
        self.sends_at = self.reads_at = 0.0
        self.corked = False

    @property
    def sending_over(self) -> bool:
        """Whether it has ended its stream."""
        return bool(self.shut & NO_SEND)

    def push_on(self) -> None:
        """Send what was kept, if it is time."""
        raise NotImplementedError

    def _readable_part(self, fate: Fate, size: int) -> int:
        """How much of `size` bytes a receive returns, when there is something."""
        there = self.in_size
        part = min(size, there)
        if fate.short is not None:
            part = fate.short.cut(part)
        slow = fate.slow_reader
        if slow is not None and slow.bytes < there and (seconds := slow.pause()):
            part = min(part, slow.bytes)
            self.reads_at = self.network.now + seconds
            self.network.at(self.reads_at, self.changed)
        return part

    def _sendable_part(self, fate: Fate, size: int) -> int:
        """How much of `size` bytes a send takes, when there is room for them."""
        if self.corked:
            # It comes with what was kept for it.
            self.corked, self.sends_at = False, 0.0
        elif self.sends_at <= self.network.now:
            fate.waited = False
        return fate.partial.cut(size) if fate.partial is not None else size

    def _segment(self, fate: Fate, size: int) -> tuple[int, float]:
        """How large the next segment is, of at most `size` bytes, and how many seconds after it the
        next may come; 0 bytes: none is sent now."""
        network = self.network
        if fate.reset is not None and not self.severed and fate.reset.strikes():
            network.note(self.host.name, "reset", self.peer, self.local)
            self.break_off()
            return 0, 0.0
        if fate.half_open is not None and not self.severed and fate.half_open.strikes():
            network.note(self.host.name, "half-open", self.peer, self.local)
            self.sever()
            network.severed.append(self)
        if fate.waited:
            return _cut(fate, size)
        seconds = fate.zero_window.pause() if fate.zero_window is not None else 0.0
        if seconds:
            network.note(self.host.name, "zero-window", self.peer, self.local, seconds)
        if not seconds and fate.merge is not None and not self.sending_over:
            seconds = fate.merge.pause()
            self.corked = seconds > 0
        if seconds:
            fate.waited = True
            self.sends_at = network.now + seconds
            network.at(self.sends_at, self.push_on)
            return 0, 0.0
        return _cut(fate, size)


def _cut(fate: Fate, size: int) -> tuple[int, float]:
    if fate.split is not None and (part := fate.split.cut(size)) < size:
        return part, fate.split.seconds("gap")
    return size, 0.0
