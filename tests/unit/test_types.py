"""What a program's type checker knows of the library: options, results of tasks, handlers."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from anysock.net.addresses import Address
from anysock.options.keywords import ServeKeywords
from anysock.options.serve import OPTIONS, ServeOptions

# What is taken besides the option's own type and its text.
_MORE = {"admin": int, "tls_client_ca": Path}
# What several may be given of; of the others, networks.
_FILES = str | Path | Sequence[str | Path] | None
_SEVERAL = {
    "bind": str | Address | Sequence[str | Address],
    "tls_cert": _FILES,
    "tls_key": _FILES,
}
_NETWORKS = str | IPv4Network | IPv6Network | Sequence[str | IPv4Network | IPv6Network]


def test_the_keywords_are_the_options():
    assert list(ServeKeywords.__annotations__) == list(OPTIONS)
    assert not ServeKeywords.__required_keys__


@pytest.mark.parametrize("name", OPTIONS)
def test_a_keyword_is_of_its_options_type_or_a_text(name):
    hint = typing.get_type_hints(ServeOptions)[name]
    wanted: Any = hint if OPTIONS[name].switch else hint | str
    if name in _MORE:
        wanted |= _MORE[name]
    if OPTIONS[name].many:
        wanted = _SEVERAL.get(name, _NETWORKS)
    assert typing.get_type_hints(ServeKeywords)[name] == wanted


def test_a_file_may_be_a_path_and_the_admin_port_a_number():
    options: Any = ServeOptions
    assert options(bind="tls://:0", tls_cert=Path("cert.pem")).tls_cert == ("cert.pem",)
    assert options(admin=9000).admin == Address("127.0.0.1", 9000)


PROGRAM = """
import contextlib
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import anysock


class App:
    greeting = "hello"


@contextlib.asynccontextmanager
async def lifespan(server: anysock.Server) -> AsyncIterator[App]:
    task: anysock.Task[int] = server.spawn(number())
    yield App()


async def of_app(connection: anysock.Connection[App]) -> None:
    connection.log.info("from %s", connection.peer, extra={"id": connection.id})
    connection.state.greeting + 1  # E: Unsupported operand types for +
    text: str = connection.server.state.greeting
    connection.server.request_end()
    task: anysock.Task[str] = connection.server.spawn(word())


async def of_text(connection: anysock.Connection[str]) -> None:
    connection.state.upper()


async def of_object(connection: anysock.Connection[object]) -> None:
    pass


def with_lifespan() -> None:
    server = anysock.Server(of_app, lifespan=lifespan)
    app: App = server.state
    anysock.serve(of_app, lifespan=lifespan, bind=":0")
    anysock.serve(handler, lifespan="app:lifespan")
    anysock.serve(of_object, lifespan=lifespan)
    anysock.serve("echo", lifespan=lifespan)
    anysock.serve(of_text, lifespan=lifespan)  # E: Cannot infer
    anysock.serve(of_app, lifespan=number)  # E: incompatible type
    echo = anysock.Server("echo")
    plain = anysock.Server(handler, bind=":0")
    listed: list[anysock.Server] = [server, echo, plain]


async def handler(connection: anysock.Connection) -> None:
    async with anysock.move_on_after(5) as scope:
        await connection.send_all(await connection.recv())
    assert_scope(scope)


def assert_scope(scope: anysock.Scope) -> bool:
    return scope.fired


def ordinary(connection: anysock.Connection) -> None:
    pass


async def number() -> int:
    async with anysock.task_group() as group:
        text: anysock.Task[str] = group.spawn(word())
        wrong: anysock.Task[int] = group.spawn(word())  # E: Any, str]"
    task = anysock.spawn(number())
    tasks: list[anysock.Task[object]] = [text, task]
    await tasks[0].join()
    return await task.join()


async def word() -> str:
    return await anysock.spawn(number()).join()  # E: got "int", expected "str"


def main() -> None:
    anysock.serve(handler, bind="127.0.0.1:0", drain_timeout="500ms", workers="auto", admin=9000)
    anysock.serve(handler, allow=["10.0.0.0/8"], deny="::1", max_line=5, tls_key=Path("key"))
    anysock.serve(functools.partial(handler), max_connections=None, production=True)
    anysock.Server("echo", anysock.ServeOptions(workers=2))
    anysock.serve(handler, engin="x")  # E: Unexpected keyword argument "engin" for "serve"
    anysock.Server(handler, engin="x")  # E: Unexpected keyword argument "engin" for "Server"
    anysock.serve(handler, bind=8000)  # E: incompatible type "int"
    anysock.serve(handler, drain_timeout=None)  # E: incompatible type "None"
    anysock.serve(handler, production="yes")  # E: incompatible type "str"
    anysock.serve(ordinary)  # E: incompatible type
    anysock.run(number())  # E: incompatible type "Coroutine[Any, Any, int]"
    result: str = anysock.run(number)  # E: expression has type "int"
    anysock.spawn(number)  # E: incompatible type
"""


def test_mypy_finds_what_is_wrong_and_nothing_else(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    expected = {
        number: line.partition("  # E: ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # E: " in line
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), "--strict",
         str(program)],
        cwd=root, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    found = dict(re.findall(r"program\.py:(\d+): error: (.*)", done.stdout))
    assert {int(line) for line in found} == set(expected), done.stdout + done.stderr
    for line, says in expected.items():
        assert says in found[str(line)]
