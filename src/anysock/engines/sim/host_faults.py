"""Faults of a host: it crashes, it stands still, a step takes long, its wall clock jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from anysock.engines.sim.fates import Recurrence
from anysock.engines.sim.faults import Faults
from anysock.engines.sim.timeline import Timeline
from anysock.engines.sim.troubles import Troubles


class Process(Protocol):
    """What can be done to the process on a host."""

    def crash(self, *, power: bool) -> None:
        """It ends at once; with `power`, all of its machine does."""
        ...

    def restart(self) -> None: ...


class HostFaults:
    """What may go wrong on one host. Each is met when the host does something, and not before."""

    def __init__(self, faults: Faults, network: Timeline, host: str) -> None:
        self._network = network
        self._host = host
        self._crashes = Troubles(faults, ("crash",), host, network.now)
        self._stalls = Troubles(faults, ("stall",), host, network.now)
        self._clock = Troubles(faults, ("clock",), host, network.now)
        self._slow_step: Recurrence | None = faults.recurrence("slow-step", host)
        #: Until when it stands still; and whether that was, or is, since its process was stopped.
        self.still_until = 0.0
        self.was_stopped = False

    def may_turn(self, process: Process | None, wake: Callable[[], object]) -> bool:
        """Whether its loop takes its turn, now that it wants to. `wake` is called when it may."""
        now = self._network.now
        if now >= self._stalls.next:
            for trouble in self._stalls.meet(now):
                self.was_stopped = True
                self._stand_still("stall", trouble.ends, wake)
        if process is not None and now >= self._crashes.next:
            for trouble in self._crashes.meet(now):
                process.crash(power=trouble.dice.random() < trouble.kind.parameters["power"])
                self._network.at(trouble.ends, process.restart)
                return False
        return now >= self.still_until

    def has_turned(self, wake: Callable[[], object]) -> None:
        """Its loop has had a turn."""
        if self._slow_step is not None and (seconds := self._slow_step.pause()):
            self._stand_still("slow-step", self._network.now + seconds, wake)

    def _stand_still(self, why: str, until: float, wake: Callable[[], object]) -> None:
        self._network.note(self._host, why, round(until - self._network.now, 6))
        if until > self.still_until:
            self.still_until = until
            self._network.at(until, wake)

    def clock_jump(self) -> float:
        """By how many seconds its wall clock has jumped since it was last looked at."""
        if self._network.now < self._clock.next:
            return 0.0
        seconds = 0.0
        for trouble in self._clock.meet(self._network.now):
            most = trouble.kind.parameters["most"]
            jump = trouble.dice.uniform(-most, most)
            self._network.note(self._host, "clock", jump)
            seconds += jump
        return seconds


def faults_of_host(faults: Faults | None, network: Timeline, host: str) -> HostFaults | None:
    """What may go wrong on it; None: nothing, ever."""
    kinds = ("crash", "stall", "clock", "slow-step")
    if faults is None or not any(name in faults.kinds for name in kinds):
        return None
    return HostFaults(faults, network, host)
