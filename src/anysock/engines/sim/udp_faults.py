"""What happens to datagrams between two hosts: they are lost, come twice, or are overtaken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anysock.engines.sim.fates import Recurrence
from anysock.engines.sim.links import Link


class DatagramFaults:
    """Those of one way between two hosts: its `links.Copies`."""

    __slots__ = ("_duplicate", "_link", "_loss", "_reorder")

    def __init__(self, link: Link) -> None:
        def kind(name: str) -> Recurrence | None:
            faults = link.pair.network.faults
            if faults is None or link.source == link.to:
                return None
            return faults.recurrence(name, f"{link.source}>{link.to}")

        self._link = link
        self._loss, self._duplicate, self._reorder = map(kind, ("loss", "duplicate", "reorder"))

    def copies(self) -> Sequence[float]:
        link = self._link
        # Each is asked each time, so that one that strikes shifts no other.
        lost = self._loss is not None and self._loss.strikes()
        late = self._reorder.pause() if self._reorder is not None else 0.0
        again = self._duplicate.pause() if self._duplicate is not None else 0.0
        if lost or link.loses():
            return ()
        first = link.latency + late
        return (first, first + again) if again else (first,)


def carry(link: Link, deliver: Callable[[], object]) -> None:
    """Call `deliver()` when a datagram that is sent on `link` arrives: once, mostly."""
    network = link.pair.network
    if link.datagrams is None:
        link.datagrams = DatagramFaults(link)

    def arrive() -> None:
        if link.up:
            deliver()
        elif not link.keep(arrive):
            network.note(link.source, "lost", link.to)

    for delay in link.datagrams.copies():
        if delay:
            network.at(network.now + delay, arrive)
        else:
            arrive()
