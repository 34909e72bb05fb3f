"""A host of the simulated network: its addresses, its descriptors, and the loop that runs on it."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Sequence
from typing import Any, Final

from anysock.engines.running import become
from anysock.engines.sim import here
from anysock.engines.sim.agenda import Due
from anysock.engines.sim.files import Files
from anysock.engines.sim.host_faults import Process, faults_of_host
from anysock.engines.sim.network import Member, Network
from anysock.engines.sim.ports import Ports
from anysock.loop.kernel import MAX_EVENTS

# Numbers that no real descriptor has: should one get to the real system, it is EBADF there. Those
# of a host are no other host's, so that who uses a socket of another one is told.
FIRST_DESCRIPTOR: Final = 1_000_003
_NUMBERS_A_HOST: Final = 65_536
_MAX_HOSTS: Final = 32_000

# As ulimit(1) has it on most machines.
DESCRIPTORS: Final = 1024

#: What the wall clock shows when a simulation begins: 2020-01-01 UTC.
EPOCH: Final = 1_577_836_800.0

# Where ports begin that the system chooses (ip(7), ip_local_port_range).
FIRST_PORT: Final = 32_768


class Looker:
    """A poller, as hosts and sockets see it."""

    #: Whether the sleep that is over was interrupted by a stop of the process.
    interrupted: bool

    def look(self, fd: int) -> None:
        """Something has happened to a socket."""
        raise NotImplementedError

    def has_events(self) -> bool:
        """Whether there is something to report."""
        raise NotImplementedError

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """What there is: descriptors, and what poll(2) says of each."""
        raise NotImplementedError


class Opened:
    """What a descriptor stands for: a `sockets.SimSocket`."""

    __slots__ = ()

    def mask(self) -> int:
        """What poll(2) says of it."""
        raise NotImplementedError

    def recv(self, size: int, flags: int = 0) -> bytes:
        raise NotImplementedError

    def send(self, data: Any, flags: int = 0) -> int:
        raise NotImplementedError

    def writev(self, pieces: Sequence[Any]) -> int:
        """Send several pieces as one."""
        raise NotImplementedError

    def unacknowledged(self) -> int:
        """What SIOCOUTQ says (tcp(7), unix(7))."""
        raise NotImplementedError


class Entered:
    """What `Host.entered` returns. (A generator would take three times as long.)"""

    __slots__ = ("_before", "_host")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = here.current
        self._host.enter()

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            here.current = None
        else:
            self._before.enter()


class Host(Member):
    """One host. It is made by `Network` and its `SimEngine`."""

    def __init__(self, network: Network, name: str, descriptors: int = DESCRIPTORS) -> None:
        if name in network.hosts:
            raise ValueError(f"there is a host {name!r} already")
        number = len(network.hosts) + 1
        self.network = network
        self.name = name
        #: Its addresses, as others see them; besides these, it has loopback's.
        self.addresses = (f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}")
        #: How many descriptors may be open at once.
        self.descriptors = descriptors
        #: Its open sockets, by descriptor: each a `sockets.SimSocket`.
        self.sockets: dict[int, Any] = {}
        #: What is bound, by kind, address and port; and by the name of a Unix socket.
        self.bound: dict[tuple[Any, ...], Any] = {}
        #: What Unix sockets are bound to.
        self.files = Files()
        #: The ports of TCP.
        self.ports = Ports()
        #: Seconds by which its wall clock is off.
        self.clock_offset = 0.0
        #: Whether it is stopped, as by SIGSTOP: its system goes on, its tasks do not; and whether
        #: it was, and has not had a turn since.
        self.stalled = False
        self.was_stalled = False
        #: How many connections it has asked for.
        self.connects = 0
        #: What accept(2) fails with for now, as by a fault, and until when.
        self.short_of = 0
        self.short_until = 0.0
        #: The `engine.SimEngine` that runs on it; None: nothing does.
        self.engine: Any = None
        #: The kernel of that, and its poller: each turn asks for them.
        self.kernel: Any = None
        self.poller: Looker | None = None
        #: What a fault crashes, and starts again; None: nothing that can be.
        self.process: Process | None = None
        self.faults = faults_of_host(network.faults, network, name)
        self._first = FIRST_DESCRIPTOR + number % _MAX_HOSTS * _NUMBERS_A_HOST
        self._free: list[int] = []
        self._next_port = FIRST_PORT
        self._wake: Due | None = None
        network.hosts[name] = self

    # -- descriptors -----------------------------------------------------------------------------

    def open(self, sock: Any) -> int:
        """A descriptor for `sock`: the lowest number that is free. Raises OSError, EMFILE."""
        if len(self.sockets) >= self.descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        fd = heapq.heappop(self._free) if self._free else self._first + len(self.sockets)
        self.sockets[fd] = sock
        return fd

    def close(self, fd: int) -> None:
        """Give a descriptor back."""
        del self.sockets[fd]
        heapq.heappush(self._free, fd)

    # -- addresses -------------------------------------------------------------------------------

    def owns(self, address: str) -> bool:
        """Whether `address` is one of its own, loopback's among them."""
        return address in self.addresses or address.startswith("127.") or address == "::1"

    def free_port(self, kind: str, address: str) -> int:
        """A port that is free, for what does not care. Raises OSError, EADDRINUSE."""
        for _ in range(65_536 - FIRST_PORT):
            port = self._next_port
            self._next_port = port + 1 if port < 65_535 else FIRST_PORT
            if (kind, address, port) not in self.bound:
                return port
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    # -- its clock -------------------------------------------------------------------------------

    def wall_clock(self) -> float:
        """What its wall clock shows that is looked at, in seconds since 1970-01-01 UTC."""
        now = EPOCH + self.network.look()
        if self.faults is not None:
            self.clock_offset += self.faults.clock_jump()
        return now + self.clock_offset

    # -- its loop --------------------------------------------------------------------------------

    def enter(self) -> None:
        """From now on, system calls are this host's."""
        here.current = self
        become(self.engine)

    def entered(self) -> Entered:
        """Within the block, it is as if it was its turn."""
        return Entered(self)

    def has_events(self) -> bool:
        """Whether a descriptor is ready that a task waits for, or a task is ready to run: one that
        was woken by another host, say."""
        poller = self.poller
        if self.engine is None or poller is None:
            return False
        return bool(self.kernel._ready) or poller.has_events()

    def turn(self) -> None:
        """One iteration of its loop; then it says when it wants the next."""
        if self.engine is None or self.stalled:
            return
        faults = self.faults
        if faults is not None:
            if not faults.may_turn(self.process, self._busy):
                return
            if faults.was_stopped:
                faults.was_stopped, self.was_stalled = False, True
        if self.was_stalled:
            self.was_stalled = False
            deadline = self.kernel.timers.next_deadline()
            assert self.poller is not None
            self.poller.interrupted = deadline is not None and deadline < self.network.now
        self.enter()
        kernel = self.kernel
        if isinstance(kernel.poller, Looker) and kernel.watchdog_wakeup is None:
            self._iterate(kernel, kernel.poller)
        else:
            kernel.iterate()  # somebody watches it
        self.plan()
        if faults is not None:
            faults.has_turned(self._busy)

    def _iterate(self, kernel: Any, poller: Looker) -> None:
        """`Kernel.iterate`, of a loop that is turned only when it has something to do, and so never
        sleeps: where this is compiled, most of what an iteration costs is saved."""
        timers = kernel.timers
        kernel.iterations += 1
        if not kernel._ready and timers._heap and timers.next_deadline() is not None:
            self.network.look()  # as who calculates how long to sleep
        events = poller.poll(0.0, MAX_EVENTS)
        if events:
            kernel.process_events(events)
        now = self.network.look()
        if timers._heap:
            timers.run_due(now)
        if kernel._ready:
            kernel.run_ready_tasks()

    def plan(self) -> None:
        """Be turned again when there is something to do: at once, or with the next timer."""
        network = self.network
        if self.engine is None:
            return
        timers = self.kernel.timers
        deadline = timers.next_deadline() if timers._heap else None
        if self.has_events() or (deadline is not None and deadline <= network.now):
            network.busy(self)
            return
        if deadline is None:
            return
        wake = self._wake
        if wake is not None and wake[2] is not None:
            if wake[0] <= deadline:
                return  # that is early enough, and plans again
            network.cancel(wake)
        self._wake = network.at(deadline, self._busy)

    def _busy(self) -> None:
        self.network.busy(self)

    def waiting(self) -> list[str]:
        """The names of the tasks that have not ended."""
        return [] if self.engine is None else list(self.engine.living())
