"""An engine whose clock jumps to whatever comes next."""

from __future__ import annotations

from anysock.engines.nonblocking.engine import NonblockingEngine
from tests.unit.test_kernel import FakePoller


class VirtualEngine(NonblockingEngine):
    """Our own loop, by a clock that jumps to whatever comes next."""

    name = "virtual"

    def __init__(self) -> None:
        poller = FakePoller()
        super().__init__(poller, clock=lambda: poller.now)
