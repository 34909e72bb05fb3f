"""An engine whose clock jumps to whatever comes next."""

from __future__ import annotations

from anysock.engines.nonblocking import NonblockingEngine
from anysock.loop.kernel import Kernel
from anysock.loop.pollers import Poller
from tests.unit.test_kernel import FakePoller


class VirtualEngine(NonblockingEngine):
    """Our own loop, by a clock that jumps to whatever comes next."""

    name = "virtual"

    def __init__(self) -> None:
        super().__init__()
        self._kernel.close()
        poller = FakePoller()
        self._kernel = Kernel(poller, clock=lambda: poller.now)

    def _make_poller(self) -> Poller:
        return FakePoller()
