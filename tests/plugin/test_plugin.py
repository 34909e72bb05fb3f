"""The plugin for pytest, in runs of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import anysock
from tests.harness import CONCURRENT_ENGINES, ENGINES

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_pytest(pytester, monkeypatch):
    """Run pytest in a process of its own, with our plugin, however Anysock is installed here."""
    monkeypatch.setenv("PYTHONPATH", str(Path(anysock.__file__).parents[1]))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source, *plugins, ini=""):
        pytester.makepyfile(test_it=source)
        pytester.makeini("[pytest]\nfilterwarnings = error\n" + ini)
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        options = ["-p", "no:cacheprovider", "--strict-markers", "-rA", "--tb=short"]
        for plugin in ("anysock.testing.plugin", *plugins):
            options += ["-p", plugin]
        return pytester.runpytest_subprocess(*options, timeout=60)

    return run


def test_it_is_found_where_anysock_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"anysock": "anysock.testing.plugin"}


GOOD = """
import pytest
import anysock
from anysock.testing import connection_pair


async def shout(connection):
    async for line in connection.lines():
        await connection.send_all(line.upper())


def test_an_ordinary_one(anysock_server, anysock_engine):
    server = anysock_server(shout)
    assert server.server.options.engine == anysock_engine
    assert server.ask(b"hello\\n") == b"HELLO\\n"


@pytest.mark.anysock
async def test_an_async_one(anysock_server):
    if current() == "blocking":
        pytest.skip("the two ends of a test")
    server = anysock_server(shout, max_connections=5)
    async with await anysock.connect(server.address) as connection:
        await connection.send_all(b"hello\\n")
        assert await connection.recv_line() == b"HELLO\\n"


@pytest.mark.anysock
@pytest.mark.anysock_engines(concurrent=True)
async def test_two_ends_in_memory():
    client, server = connection_pair()
    async with client, anysock.task_group() as group:
        group.spawn(shout(server))
        await client.send_all(b"hello\\n")
        assert await client.recv_line() == b"HELLO\\n"
        await client.send_eof()


class TestSome:
    pytestmark = [pytest.mark.anysock, pytest.mark.anysock_engines("trio", "selector")]

    @pytest.mark.parametrize("number", [1, 2])
    async def test_in_a_class(self, number, anysock_engine):
        assert current() == anysock_engine
        await anysock.sleep(0)


@pytest.mark.parametrize("anysock_engine", ["polling"], indirect=True)
def test_that_says_it_itself(anysock_engine):
    assert anysock_engine == "polling"


def current():
    from anysock.engines.current import current_engine
    return current_engine().name
"""


def test_tests_run_under_each_engine(run_pytest):
    result = run_pytest(GOOD)
    result.assert_outcomes(passed=2 * len(ENGINES) + len(CONCURRENT_ENGINES) + 4 + 1 - 1, skipped=1)
    result.stdout.fnmatch_lines(["*test_in_a_class[[]trio-1[]]*"])


def test_the_engines_of_a_project_are_an_ini_option(run_pytest):
    result = run_pytest(GOOD, ini="anysock_engines = selector asyncio\n")
    result.assert_outcomes(passed=2 + 2 + 2 + 4 + 1)


def test_an_engine_that_is_not_there_is_left_out_unless_it_is_asked_for(run_pytest):
    result = run_pytest(
        """
import importlib.util
import pytest

found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "uvloop" else found(name)

def test_all(anysock_engine):
    assert anysock_engine != "uvloop"

@pytest.mark.anysock_engines("uvloop", "selector")
def test_one(anysock_engine):
    assert anysock_engine == "selector"
"""
    )
    result.assert_outcomes(passed=len(ENGINES) - 1 + 1, skipped=1)
    result.stdout.fnmatch_lines(["*'uvloop' needs the module uvloop*"])


def test_a_simulated_network_is_for_tests_that_ask_for_it(run_pytest):
    result = run_pytest(
        """
import time

import anysock
import pytest

@pytest.mark.anysock
@pytest.mark.anysock_engines("sim")
async def test_it():
    async with anysock.Server("echo", bind="127.0.0.1:7", idle_timeout=3600) as server:
        async with await anysock.connect(server.addresses[0]) as connection:
            began = time.monotonic()
            assert await connection.recv() == b""
            assert time.monotonic() - began < 60

@pytest.mark.anysock_engines("sim")
def test_a_thread_is_in_no_simulation(anysock_server):
    with pytest.raises(anysock.UsageError, match="a network of its own"):
        anysock_server("echo")
"""
    )
    result.assert_outcomes(passed=2)


def test_an_engine_that_nobody_knows_is_an_error(run_pytest):
    result = run_pytest(
        "import pytest\n@pytest.mark.anysock_engines('selectr')\ndef test(anysock_engine): pass"
    )
    result.stdout.fnmatch_lines(["*unknown engine 'selectr': choose of blocking, *"])
    assert result.ret != 0


BAD = """
import socket
import pytest
import anysock

pytestmark = pytest.mark.anysock_engines("selector")
kept = []


async def careless(connection):
    async for line in connection.lines():
        if line == b"task\\n":
            anysock.spawn(anysock.sleep(60), name="forgotten")
        elif line == b"socket\\n":
            kept.append(socket.socket())
        elif line == b"fail\\n":
            raise ValueError("on purpose")
        await connection.send_all(line)


def test_task(anysock_server):
    anysock_server(careless).ask(b"task\\n")

def test_socket(anysock_server):
    anysock_server(careless).ask(b"socket\\n")
    yes = True

def test_failure(anysock_server):
    anysock_server(careless).ask(b"fail\\n")

@pytest.mark.anysock_may_leave("failures", "tasks")
def test_failure_that_is_allowed(anysock_server):
    anysock_server(careless).ask(b"task\\nfail\\n")

def test_failure_that_is_expected(anysock_server):
    server = anysock_server(careless)
    server.ask(b"fail\\n")
    assert str(server.failures.pop()) == "on purpose"

def test_that_fails_already(anysock_server):
    anysock_server(careless).ask(b"fail\\n")
    assert False, "its own failure"

def test_engine_twice(anysock_server):
    with pytest.raises(anysock.UsageError, match="leave out engine"):
        anysock_server("echo", engine="trio")

@pytest.mark.anysock
async def test_async_that_fails():
    await anysock.sleep(0)
    assert 1 == 2
"""


def test_what_handlers_leave_fails_the_test_and_is_named(run_pytest):
    result = run_pytest(BAD)
    result.assert_outcomes(passed=6, failed=2, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*  tasks: 'forgotten'",
            "*  descriptors: a socket at ('0.0.0.0', 0)",
            "*  failures: ValueError: on purpose (line 16 of *test_it.py)",
            "E   assert 1 == 2",
        ]
    )
    assert result.stdout.str().count("\nleft by the server") == 3


def test_it_does_nothing_unless_it_is_asked(run_pytest):
    result = run_pytest(
        """
import sys

def test_ordinary():
    heavy = {"asyncio", "ssl", "trio", "anysock.loop", "click", "rich", "h11"}
    assert not heavy & set(sys.modules)

async def helper():
    pass
"""
    )
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*test_ordinary[[]*")


def test_it_goes_with_the_plugins_of_others(run_pytest):
    """Each takes the tests that are marked for it."""
    result = run_pytest(
        """
import asyncio
import pytest
import trio
import anysock

pytestmark = pytest.mark.anysock_engines("selector")

@pytest.mark.asyncio
async def test_of_asyncio(anysock_server):
    asyncio.current_task().get_name()
    async with await anysock.connect(anysock_server("echo").address) as connection:
        await connection.send_all(b"x")
        assert await connection.recv() == b"x"

@pytest.mark.trio
async def test_of_trio(anysock_server):
    trio.lowlevel.current_task()
    async with await anysock.connect(anysock_server("echo").address) as connection:
        await connection.send_all(b"x")
        assert await connection.recv() == b"x"

@pytest.mark.anyio
async def test_of_anyio(anysock_server):
    async with await anysock.connect(anysock_server("echo").address) as connection:
        await connection.send_all(b"x")
        assert await connection.recv() == b"x"

@pytest.mark.anysock
async def test_of_anysock(anysock_engine):
    with pytest.raises(RuntimeError):
        asyncio.current_task()
""",
        *("asyncio", "trio", "anyio"),
        ini="asyncio_default_fixture_loop_scope = function\n",
    )
    result.assert_outcomes(passed=1 + 1 + 2 + 1)
