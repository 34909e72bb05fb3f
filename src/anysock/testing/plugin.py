"""The plugin for pytest, which finds it by itself where Anysock is installed.

It does nothing until a test asks for it:

- the fixture `anysock_engine` is the name of an engine; a test that uses it runs once under each
  that is available here;
- the fixture `anysock_server` starts a server under that engine: ``anysock_server(handler,
  **options)`` returns a `ServerThread`; at the end of the test, what it has left fails the test;
- ``async def`` tests that are marked ``@pytest.mark.anysock`` run by `anysock.run` under that
  engine.

Which engines: ``@pytest.mark.anysock_engines("selector", "trio")``, or ``concurrent=True`` for
those that serve several clients at once; and for all tests the ini-option ``anysock_engines``.
``"sim"``, in a simulated network, is none of those that are available: it has to be named.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import pytest

from anysock.engines import ENGINES, EngineEntry, engine_entry
from anysock.errors import UsageError

if TYPE_CHECKING:
    from anysock.handlers import Handler
    from anysock.options.keywords import ServeKeywords
    from anysock.server.server import Lifespan
    from anysock.streams.running import State_co
    from anysock.testing.server import ServerThread

_ENGINE = "anysock_engine"
_failed = pytest.StashKey[bool]()


class StartServer(Protocol):
    """What the fixture `anysock_server` is."""

    def __call__(
        self,
        handler: Handler[State_co] | str,
        *,
        lifespan: Lifespan[State_co] | str | None = None,
        **options: Unpack[ServeKeywords],
    ) -> ServerThread[State_co]: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "anysock_engines",
        "the engines that anysock_engine stands for (default: all that are available)",
        type="args",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "anysock: run this async test by anysock.run, under anysock_engine",
        "anysock_engines(*names, concurrent=None): the engines that anysock_engine stands for",
        "anysock_may_leave(*kinds): what anysock_server may leave behind",
    ):
        config.addinivalue_line("markers", line)


# -- which engines ---------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _ENGINE in metafunc.fixturenames and not _is_given(metafunc.definition):
        metafunc.parametrize(_ENGINE, _engines(metafunc.definition), indirect=True)


def _is_given(item: pytest.Item) -> bool:
    """Whether the test names its engines by ``parametrize`` itself."""
    for marker in item.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs["argnames"]
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if _ENGINE in names:
            return True
    return False


def _engines(item: pytest.Item) -> list[Any]:
    marker = item.get_closest_marker("anysock_engines")
    asked = tuple(marker.args) if marker is not None else ()
    asked = asked or tuple(item.config.getini("anysock_engines"))
    entries = [_entry(name, item) for name in asked] if asked else list(ENGINES.values())
    if marker is not None and marker.kwargs.get("concurrent") is not None:
        wanted = marker.kwargs["concurrent"]
        entries = [entry for entry in entries if entry.concurrent == wanted]
    found = []
    for entry in entries:
        reason = entry.why_not()
        if reason is None:
            found.append(pytest.param(entry.name))
        elif asked:
            skip = pytest.mark.skip(reason=f"the engine {entry.name!r} {reason}")
            found.append(pytest.param(entry.name, marks=skip))
    return found


def _entry(name: str, item: pytest.Item) -> EngineEntry:
    try:
        return engine_entry(name)
    except KeyError:
        raise pytest.UsageError(
            f"{item.nodeid}: anysock_engines: unknown engine {name!r}: "
            f"choose of {', '.join(ENGINES)}"
        ) from None


@pytest.fixture
def anysock_engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine: each that is available here in turn, or those that the marker
    `anysock_engines` names."""
    return str(request.param)


# -- a server --------------------------------------------------------------------------------------


@pytest.fixture
def anysock_server(request: pytest.FixtureRequest, anysock_engine: str) -> Iterator[StartServer]:
    """``anysock_server(handler, **options)`` starts a server under `anysock_engine`, on a thread
    of its own and a free port of 127.0.0.1, and returns it as a `ServerThread`. When the test is
    over, it is drained, and the test fails if something is left: see `assert_nothing_left`."""
    from anysock.testing.server import ServerThread, assert_nothing_left

    markers = request.node.iter_markers("anysock_may_leave")
    may_leave = [kind for marker in markers for kind in marker.args]
    servers: list[ServerThread[Any]] = []

    def start(
        handler: Handler[State_co] | str,
        *,
        lifespan: Lifespan[State_co] | str | None = None,
        **options: Unpack[ServeKeywords],
    ) -> ServerThread[State_co]:
        if "engine" in options:
            raise UsageError("anysock_server() serves under anysock_engine: leave out engine=")
        options["engine"] = anysock_engine
        server = ServerThread(handler, lifespan=lifespan, may_leave=may_leave, **options)
        server.start()
        servers.append(server)
        return server

    yield start
    told = []
    for server in reversed(servers):
        server.stop()
        try:
            assert_nothing_left(server)
        except AssertionError as error:
            told.append(str(error))
    # A test that has failed may leave anything behind; its own failure tells more.
    if told and not request.node.stash.get(_failed, False):
        pytest.fail("\n".join(told), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


# -- async tests -----------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> None:
    """An async test that is marked uses `anysock_engine`, whether it names it or not."""
    if inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name):
        own = [*getattr(obj, "pytestmark", [])]
        if any(mark.name == "anysock" for mark in (*own, *collector.iter_markers("anysock"))):
            pytest.mark.usefixtures(_ENGINE)(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if pyfuncitem.get_closest_marker("anysock") is None or not inspect.iscoroutinefunction(test):
        return None
    from anysock.tasks.runtime import run

    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in inspect.signature(test).parameters
        if name in pyfuncitem.funcargs
    }
    run(functools.partial(test, **arguments), engine=str(pyfuncitem.funcargs[_ENGINE]))
    return True
