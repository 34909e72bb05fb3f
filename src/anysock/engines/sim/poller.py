"""The poller of a simulated host: the face of `select.epoll`."""

from __future__ import annotations

import gc
from typing import Final

from anysock.engines.sim import here
from anysock.engines.sim.host import Host, Looker, Opened
from anysock.loop.pollers import FAILED

# Python's `Kernel` asks for no longer sleep than this: then no timer is set.
FOREVER: Final = 86_400.0


class SimPoller(Looker):
    """Says which sockets of a host are ready. With `drives`, its sleep is what lets all other hosts
    run, and the clock go on."""

    def __init__(self, host: Host) -> None:
        self.drives = False
        #: Whether the sleep that is over was interrupted by a stop of the process, which went on
        #: when its time was over: then there are no events, even if a descriptor is ready. (After
        #: SIGCONT, epoll_wait(2) fails with EINTR, as signal(7) says; and `select.epoll` does not
        #: look again when there is no time left, as PEP 475 has it.)
        self.interrupted = False
        self._host = host
        # By descriptor, with what is reported in any case.
        self._interests: dict[int, int] = {}
        # Those that were ready when it was last looked, in that order.
        self._ready: dict[int, None] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        if here.current is not self._host:
            here.check_owner(fd)
        self._interests[fd] = eventmask | FAILED
        self._host.sockets[fd].poller = self
        self.look(fd)

    def modify(self, fd: int, eventmask: int, /) -> None:
        self.register(fd, eventmask)

    def unregister(self, fd: int, /) -> None:
        del self._interests[fd]
        self._ready.pop(fd, None)

    def look(self, fd: int) -> None:
        """Something has happened to a socket."""
        interest = self._interests.get(fd)
        if interest is None:
            return
        opened: Opened = self._host.sockets[fd]
        if opened.mask() & interest:
            self._ready[fd] = None
            self._host.network.busy(self._host)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        network = self._host.network
        network.turns += 1
        if network.turns % network.collect_turns == 0:
            gc.collect()
        if self.drives:
            if timeout == 0:
                network.take_turns(self._host)
            elif not self.has_events():
                endless = timeout is None or timeout >= FOREVER
                until = float("inf") if endless else network.now + (timeout or 0)
                network.run_until(self._host, until)
        found = self._events() if self._ready else []
        if self.interrupted:
            self.interrupted = False
            return []
        return found if maxevents < 0 else found[:maxevents]

    def has_events(self) -> bool:
        """Whether there is something to report."""
        return bool(self._ready) and bool(self._events())

    def _events(self) -> list[tuple[int, int]]:
        found = []
        sockets, interests = self._host.sockets, self._interests
        for fd in list(self._ready):
            opened: Opened = sockets[fd]
            mask = opened.mask() & interests[fd]
            if mask:
                found.append((fd, mask))
            else:
                del self._ready[fd]
        return found

    def close(self) -> None:
        self._interests.clear()
        self._ready.clear()
