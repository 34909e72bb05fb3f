from __future__ import annotations

import compileall
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import anysock
from tests.harness import CONCURRENT_ENGINES, ENGINES, ServerProcess
from tests.io_uring import needs_the_engine

if TYPE_CHECKING:
    from tests.pki import Pki

# What tests start writes its log into a pipe, and there its lines would begin with the time. They
# compare lines; that a line has a time is a test of its own.
os.environ["ANYSOCK_LOG_TIME"] = "0"

# How long one example takes says how busy the machine is; each test as a whole is bounded.
settings.register_profile("anysock", deadline=None)
settings.load_profile("anysock")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the sources once: each of some 2,000 processes would do it again, for 0.1 s."""
    if not hasattr(config, "workerinput"):  # before pytest-xdist starts its workers
        compileall.compile_dir(anysock.__path__[0], quiet=2)
    else:
        # As 13,000 tests are found, nothing becomes garbage; to look for it is a fifth of the time.
        gc.disable()


def pytest_collection_finish() -> None:
    """What there is now, all tests among it, lives until the end: who collects garbage need not
    look through it. (That took 0.14 s a time.)"""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is under the engine `uring` needs io_uring."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "uring" in map(str, callspec.params.values()):
        needs_the_engine()


@pytest.fixture(scope="session", autouse=True)
def _programs_that_write_no_bytecode() -> None:
    """Tests rewrite a handler within the second that a .pyc file is dated by, and they, and what
    they start, must see the new one."""
    # Not before: the workers of pytest-xdist would inherit it, and each of them would rewrite the
    # assertions of all tests anew, for seconds of a core. Else pytest keeps what it has rewritten.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell starts what runs in its background with SIGINT and SIGQUIT ignored, and nohup(1) with
    SIGHUP. The programs that the tests start inherit that, and would leave it so."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


@pytest.fixture(params=CONCURRENT_ENGINES)
def concurrent_engine(request: pytest.FixtureRequest) -> str:
    """Each engine that serves several clients at once."""
    return str(request.param)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority that issues certificates."""
    # Here, since cryptography takes its time, and few need it.
    from tests.pki import Pki

    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def start_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers. When the test is over, each is looked at, and must leave nothing behind."""
    servers: list[ServerProcess] = []

    def start(handler: str = "echo", *options: str, **more: Any) -> ServerProcess:
        servers.append(ServerProcess(handler, *options, **more))
        return servers[-1]

    failed_before = request.session.testsfailed
    yield start
    try:
        # A test that has failed already may leave clients behind; its own failure tells more.
        if request.session.testsfailed == failed_before:
            for server in servers:
                server.check()
    finally:
        for server in servers:
            server.kill()
