"""The page "Coming from …": what its tables name is there, what it says is missing is, and its two
programs do the same."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import inspect
import re
import socketserver
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import anysock
import anysock.testing
from anysock.engines import base
from anysock.net.tls_session import TlsSession
from tests.harness import connect_to, exchange, free_port, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "coming-from.md"
TEXT = PAGE.read_text()
HEADINGS = ("asyncio streams", "trio", "socketserver", "Twisted")

#: What the names in the tables stand for.
OURS: dict[str, Any] = {
    "anysock": anysock,
    "connection": anysock.Connection,
    "server": anysock.Server,
    "group": anysock.TaskGroup,
    "queue": anysock.Queue,
    "task": base.Task,
    "scope": base.Scope,
}
THEIRS: dict[str, Any] = {
    "asyncio": asyncio,
    "trio": trio,
    "socketserver": socketserver,
    "BaseRequestHandler": socketserver.BaseRequestHandler,
    "StreamRequestHandler": socketserver.StreamRequestHandler,
    "TCPServer": socketserver.TCPServer,
    "reader": asyncio.StreamReader,
    "writer": asyncio.StreamWriter,
    "loop": asyncio.AbstractEventLoop,
    "nursery": trio.Nursery,
}
#: In these tables, a server is one of theirs.
THEIR_SERVER = {"asyncio streams": asyncio.Server, "socketserver": socketserver.TCPServer}

#: Attributes of instances only.
OF_INSTANCES = ("writer.transport", "nursery.cancel_scope", "server.server_address")


def cells(heading: str) -> list[tuple[str, str]]:
    """The first and the second cell of each line of a table."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    lines = [line for line in section[1].splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    return [(line.split(" |")[0].removeprefix("| "), line.split(" |")[1]) for line in lines]


def as_statement(span: str) -> str:
    """What stands in backticks, as Python."""
    if re.fullmatch(r"\w+=", span):  # an argument
        return f"f({span}1)"
    if span.startswith("try:"):
        return "try:\n    ...\nfinally:\n    ..."
    if span.startswith(("async for", "async with")):
        head, colon, body = re.fullmatch(r"(.*?)(?:(:) (.*)|:)?", span).groups()  # type: ignore[union-attr]
        return f"{head}:\n    {body if colon else '...'}"
    return span


def nodes(cell: str) -> Iterator[ast.AST]:
    for span in re.findall(r"`([^`]+)`", cell):
        text = textwrap.indent(as_statement(span), "    ")
        yield from ast.walk(ast.parse(f"async def f():\n{text}"))


def path_of(node: ast.AST) -> list[str]:
    """``["a", "b", "c"]`` of ``a.b.c``; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def found(path: list[str], roots: dict[str, Any]) -> Any:
    """What stands at the path. Raises AttributeError when nothing does."""
    here, *names = roots[path[0]], *path[1:]
    if here is anysock.Connection and names[:1] == ["tls"] and len(names) == 2:
        assert names[1] in TlsSession.__annotations__ or hasattr(TlsSession, names[1]), path
        return None
    for name in names:
        here = getattr(here, name)
    return here


@pytest.mark.parametrize("heading", HEADINGS)
def test_what_the_tables_name_is_there(heading):
    for _, ours in cells(heading):
        for node in nodes(ours):
            path = path_of(node)
            if path and path[0] in OURS:
                found(path, OURS)
            if isinstance(node, ast.Call) and path_of(node.func)[:1] in [[name] for name in OURS]:
                check_call(found(path_of(node.func), OURS), node)


def check_call(function: Any, call: ast.Call) -> None:
    """The function takes what it is given; options have values that they can have."""
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if function in (anysock.serve, anysock.Server):
        fields = {field.name for field in dataclasses.fields(anysock.ServeOptions)}
        options = {name: ast.literal_eval(given[name]) for name in given if name in fields}
        anysock.ServeOptions(**options)
        given = {name: value for name, value in given.items() if name not in fields}
    assert set(given) <= set(inspect.signature(function).parameters), ast.unparse(call)


@pytest.mark.parametrize("heading", [each for each in HEADINGS if each != "Twisted"])
def test_it_is_called_so_over_there(heading):
    roots = THEIRS | {"server": THEIR_SERVER.get(heading)}
    for theirs, _ in cells(heading):
        for node in nodes(theirs):
            path = path_of(node)
            if len(path) > 1 and path[0] in roots and ".".join(path[:2]) not in OF_INSTANCES:
                found(path, roots)


def test_what_is_said_to_be_missing_is_missing():
    """Who adds one of these mends the page."""
    connection = {name for name in dir(anysock.Connection) if not name.startswith("_")}
    assert not connection & {"socket", "at_eof", "is_closing", "get_extra_info", "setsockopt"}
    for name in (
        "current_time", "from_thread", "call_later", "call_soon", "Future", "Deferred",
        "open_file", "run_process", "open_process", "checkpoint", "reactor", "CancelScope",
    ):  # fmt: skip
        assert not hasattr(anysock, name), name
    assert not hasattr(anysock.Event, "clear")
    assert not {"join", "task_done"} & set(dir(anysock.Queue))
    assert not hasattr(anysock.TaskGroup, "start")
    assert not {"add_done_callback", "result"} & set(dir(base.Task))
    assert not hasattr(base.Scope, "deadline")
    with pytest.raises(TypeError):
        anysock.Queue()  # type: ignore[call-arg]


def test_there_are_no_handlers_of_datagrams():
    async def handler(connection: anysock.Connection) -> None:
        await connection.close()

    async def main() -> None:
        await anysock.Server(handler, bind="udp://127.0.0.1:0").start()

    with pytest.raises(anysock.UsageError, match="udp"):
        anysock.run(main)


@pytest.mark.parametrize("number", [0, 1], ids=["before", "after"])
def test_the_two_programs_do_the_same(number, tmp_path):
    programs = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(programs) == 2
    port = free_port()
    program = tmp_path / "program.py"
    program.write_text(programs[number].replace("8000", str(port)))

    def answers(data: bytes) -> bytes:
        with connect_to(f"tcp://127.0.0.1:{port}") as client:
            return exchange(client, data)

    def listens() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            return answers(b"") == b""
        return False

    process = subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL)
    try:
        wait_until(listens, "it listens")
        assert answers(b"one\ntwo\r\nthr") == b"ONE\nTWO\r\n"
        assert answers(b"x" * 1000 + b"\n") == b"X" * 1000 + b"\n"
        assert answers(b"one\n" + b"x" * 1001 + b"\n") == b"ONE\nERR too long\n"
    finally:
        process.terminate()
        process.wait()
