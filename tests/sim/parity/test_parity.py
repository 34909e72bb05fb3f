"""The simulated sockets answer each script as Linux does on loopback."""

from __future__ import annotations

import sys

import pytest

from tests.sim.parity import (  # noqa: F401
    closing,
    connecting,
    datagrams,
    listening,
    resets,
    sending,
    unix,
    unix_names,
)
from tests.sim.parity.catalogue import SCRIPTS, Script
from tests.sim.parity.linux import Linux
from tests.sim.parity.net import Machine, Net
from tests.sim.parity.simulated import Simulated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that is simulated")


def told_by(machine: Machine, script: Script) -> list[str]:
    """What `script` tells of `machine`, a line a call."""
    net = Net(machine)
    try:
        script(net)
        return [f"{what} -> {found!r:.200}" for what, found in net.told]
    finally:
        net.close()
        machine.close()


def test_there_are_scripts_enough():
    assert len(SCRIPTS) >= 45


@pytest.mark.parametrize("name", SCRIPTS)
def test_parity(name, tmp_path):
    linux = told_by(Linux(tmp_path), SCRIPTS[name])
    simulated = told_by(Simulated(), SCRIPTS[name])
    assert linux
    assert simulated == linux
