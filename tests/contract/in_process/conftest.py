"""The engines that these tests run under, and peers that several files of tests connect to."""

from __future__ import annotations

import contextlib
import socket
from types import ModuleType

import pytest

from tests.contract.in_process.not_simulated import REASONS
from tests.harness import CONCURRENT_ENGINES, ENGINES, SIMULATED
from tests.one_host import one_host


def _chosen(request: pytest.FixtureRequest) -> str:
    if request.param in SIMULATED:
        name = f"{request.path.name}::{request.node.originalname}"
        if name in REASONS:
            pytest.skip(f"not simulated: {REASONS[name]}")
    return str(request.param)


@pytest.fixture(params=[*ENGINES, *SIMULATED])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn, the simulated ones among them."""
    return _chosen(request)


@pytest.fixture(params=[*CONCURRENT_ENGINES, *SIMULATED])
def concurrent_engine(request: pytest.FixtureRequest) -> str:
    """Each engine that serves several clients at once, the simulated ones among them."""
    return _chosen(request)


@pytest.fixture
def net(request):
    """What stands for the module `socket` on the machine that the engine of the test runs on."""
    with contextlib.ExitStack() as stack:
        simulated = any(
            request.getfixturevalue(each) in SIMULATED
            for each in ("engine", "concurrent_engine")
            if each in request.fixturenames
        )
        yield stack.enter_context(one_host()) if simulated else socket


@contextlib.contextmanager
def listening(net: ModuleType, address=("127.0.0.1", 0), backlog: int = 16):
    family = net.AF_INET6 if ":" in address[0] else net.AF_INET
    with net.socket(family, net.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen(backlog)
        yield listener


@contextlib.contextmanager
def dead_address(net: ModuleType = socket):
    """An address that answers nothing: its backlog is full, so that the kernel drops each SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(net, backlog=0))
        for _ in range(2):
            knock = stack.enter_context(net.socket())
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        probe = stack.enter_context(net.socket())
        probe.settimeout(0.05)
        try:
            probe.connect(listener.getsockname())
        except (TimeoutError, BlockingIOError):  # as those say that never block
            yield listener.getsockname()
        else:
            pytest.skip("a full backlog does not drop connections here")


@pytest.fixture
def dead(net):
    with dead_address(net) as address:
        yield address


@pytest.fixture
def alive(net):
    with listening(net) as listener:
        yield listener.getsockname()


@pytest.fixture
def refused(net):
    with net.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()
