"""What all that happens in one simulation has in common: time, chance, and the trace."""

from __future__ import annotations

from typing import Any

from anysock.engines.sim.agenda import Agenda
from anysock.engines.sim.chance import Chance
from anysock.engines.sim.faults import FaultPlan, Faults


class Timeline(Agenda):
    """The clock of a network, what is to happen by it, and what has."""

    def __init__(self, seed: int = 0, faults: FaultPlan | None = None) -> None:
        super().__init__()
        self.chance = Chance(seed)
        #: What goes wrong; None: nothing that is not asked for by name.
        self.faults = Faults(faults, self.chance) if faults is not None and faults.kinds else None
        #: What has happened: when, on which host, what, and details.
        self.trace: list[tuple[Any, ...]] = []
        #: A checksum of all that was sent: the trace tells how many bytes, and with this, which.
        self.carried = 0
        #: Whether those bytes are the same each time: see `tls_chance`.
        self.exact = True
        #: What a look at the clock costs, in seconds. Who waits for time to pass without letting it
        #: would otherwise wait for ever.
        self.look_seconds = 1e-7

    def look(self) -> float:
        """What a clock shows that is looked at."""
        self.now += self.look_seconds
        return self.now

    def note(self, host: str, what: str, *details: Any) -> None:
        """Add a line to the trace."""
        self.trace.append((self.now, host, what, *details))
