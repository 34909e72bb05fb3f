"""Engines and raw sockets on one simulated host, for tests that have both."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType

import pytest

from anysock.engines.sim import engine, here, system
from anysock.engines.sim.engine import SimEngine
from anysock.engines.sim.host import Host
from anysock.engines.sim.network import Network


@contextlib.contextmanager
def one_host() -> Iterator[ModuleType]:
    """Within the block, all engines `sim` that are made by name run on one host, one after the
    other; gives what stands there for the module `socket`. Its sockets do not block."""
    host = Host(Network(), "localhost")
    before, here.current = here.current, host
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(engine, "SimEngine", functools.partial(SimEngine, host=host))
            yield system.socket
    finally:
        here.current = before
