"""No handler, whatever it raises or swallows, ends the server or holds it up, under any engine."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import CONCURRENT_ENGINES, receive_exactly, reset

RAISING = """
import asyncio
import anysock


class Odd(BaseException):
    pass


def deeper(number):
    return deeper(number + 1) + 1


async def handler(connection):
    async for line in connection.lines():
        match line.decode().strip():
            case "Exception":
                raise Exception("on purpose")
            case "BaseException":
                raise BaseException("on purpose")
            case "Odd":
                raise Odd
            case "GeneratorExit":
                raise GeneratorExit
            case "SystemExit":
                raise SystemExit(3)
            case "KeyboardInterrupt":
                raise KeyboardInterrupt
            case "RecursionError":
                deeper(0)
            case "MemoryError":
                bytearray(1 << 62)
            case "anysock.errors.Cancelled":
                raise anysock.Cancelled
            case "asyncio.exceptions.CancelledError":
                raise asyncio.CancelledError
            case "trio.Cancelled":
                raise await cancelled_of_trio()
            case "SystemExit of a child":
                async with anysock.task_group() as group:
                    group.spawn(exit())
                    await anysock.sleep(3600)
            case "Odd of a child":
                async with anysock.task_group() as group:
                    group.spawn(odd())
                    await anysock.sleep(3600)
            case "Cancelled of a task that is joined":
                task = anysock.spawn(anysock.sleep(3600))
                task.cancel()
                await task.join()
        await connection.send_all(line)


async def exit():
    await anysock.sleep(0)
    raise SystemExit(3)


async def odd():
    await anysock.sleep(0)
    raise Odd


async def cancelled_of_trio():
    import trio
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            return_error = error
    return return_error
"""

KINDS = {
    "Exception": "Exception: on purpose",
    "BaseException": "BaseException: on purpose",
    "Odd": "mine.Odd",
    "GeneratorExit": "GeneratorExit",
    "SystemExit": "SystemExit: 3",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "RecursionError": "RecursionError",
    "MemoryError": "MemoryError",
    "anysock.errors.Cancelled": "anysock.errors.Cancelled",
}
OWN = {
    "asyncio": "asyncio.exceptions.CancelledError",
    "asyncio-sock": "asyncio.exceptions.CancelledError",
    "uvloop": "asyncio.exceptions.CancelledError",
}


def kinds_of(engine: str) -> dict[str, str]:
    kinds = dict(KINDS)
    if engine in OWN:
        kinds[OWN[engine]] = OWN[engine]
    if engine == "trio":
        kinds["trio.Cancelled"] = "trio.Cancelled"
    if engine != "blocking":  # there a child runs to its end before the block goes on
        kinds["SystemExit of a child"] = "SystemExit: 3"
        kinds["Odd of a child"] = "mine.Odd"
        kinds["Cancelled of a task that is joined"] = "anysock.errors.Cancelled"
    return kinds


def test_whatever_a_handler_raises_ends_its_own_connection(engine, start_server, tmp_path):
    """Each is logged once, with its traceback, and counts as failed; all others live on."""
    (tmp_path / "mine.py").write_text(RAISING)
    server = start_server("mine:handler", engine=engine, cwd=tmp_path)
    # Among them what is logged of the errors that the traceback names.
    server.expected_errors += ["the handler failed", "Traceback", "^warning: .* were not told"]
    kinds = kinds_of(engine)
    bystander = None if engine == "blocking" else server.connect()
    for kind in kinds:
        assert server.ask(kind.encode() + b"\n") == b"", kind
        if bystander is not None:
            bystander.sendall(b"still here\n")
            assert receive_exactly(bystander, 11) == b"still here\n"
    if bystander is not None:
        bystander.close()
    assert server.ask(b"hello\n") == b"hello\n"
    server.wait_for("handler failed after", times=len(kinds))
    for kind, name in kinds.items():
        assert server.matching(re.escape(name)), f"{kind}: {server.log}"
    told = server.matching("^error: the handler failed for")
    # (Of the warnings, some may be left out as well.)
    left_out = server.matching(r"^error: .*?(\d+) like this w(?:as|ere) not told")
    assert len(told) + sum(int(each[1]) for each in left_out) == len(kinds)
    [of_exit, *_] = server.matching("the handler failed for .*: SystemExit ends its connection")
    assert of_exit


# -- what a peer does is no failure ----------------------------------------------------------------

ONE_SIDED = """
import anysock
from anysock.handlers.echo import echo
from anysock.handlers.lines import make_lines


async def handler(connection):
    await HANDLERS[connection.peer[0]](connection)


async def exactly(connection):
    while True:
        await connection.send_all(await connection.recv_exactly(100))


async def lines(connection):
    async for line in connection.lines(50):
        await connection.send_all(line)


async def twins(connection):
    # One receives and one sends; each meets the end in its own way, and goes on after it.
    async with anysock.task_group() as group:
        group.spawn(sends(connection))
        try:
            while await connection.recv():
                pass
        finally:
            await connection.recv()


async def sends(connection):
    try:
        for _ in range(3):
            await anysock.sleep(0.002)
            await connection.send_all(b"twin")
    finally:
        await connection.send_all(b"bye")


# The address of a client says which handler it is for.
HANDLERS = {
    "127.0.0.2": make_lines(),
    "127.0.0.3": echo,
    "127.0.0.4": exactly,
    "127.0.0.5": lines,
    "127.0.0.6": twins,
}
"""


LIMITS = {
    "bytes": ("--max-bytes", "300", "--delay", "5ms"),
    "rate": ("--rate-limit", "2000"),
    "delay": ("--delay", "5ms"),
    "time": ("--idle-timeout", "100ms", "--write-timeout", "100ms", "--max-lifetime", "300ms"),
}


@pytest.mark.parametrize(
    ("engine", "limits"),
    [
        (engine, limits)
        for engine in CONCURRENT_ENGINES
        for limits in (LIMITS if engine == "selector" else ("bytes", "time"))
    ],
)
def test_no_peer_can_make_a_handler_fail(engine, start_server, tmp_path, limits):
    """Limits, and resets at all times; no error may be in the log. (`check` looks at that.)
    At every moment of each limit: `simulated/test_failures.py`."""
    (tmp_path / "mine.py").write_text(ONE_SIDED)
    server = start_server("mine:handler", *LIMITS[limits], engine=engine, cwd=tmp_path)
    server.expected_errors += [
        r"^warning: (\d+ like this were not told: )?closed the connection",
        r"^warning: (\d+ like this were not told: )?\S.* sent a ",
    ]
    pieces = (b"x" * 301, b"x" * 299 + b"\n\n", b"x" * 30 + b"\n", b"x\n" * 200, b"x" * 3000)
    for host in (f"127.0.0.{number}" for number in range(2, 7)):
        with ThreadPoolExecutor(len(pieces)) as pool:
            list(pool.map(functools.partial(end_in_every_way, server, host), pieces))
    server.wait_until_idle()
    server.signal()
    assert server.wait() == 0, server.log


def end_in_every_way(server, host, piece):
    """Clients at `host` that send `piece`, one after the other, and leave."""
    for then in ("reset", "eof and reset", "close", "wait for a byte and reset"):
        with server.connect_from(host) as client:
            client.sendall(piece)
            if then == "eof and reset":
                client.shutdown(socket.SHUT_WR)
            if then.startswith("wait"):
                client.settimeout(0.05)
                with contextlib.suppress(TimeoutError, ConnectionError):
                    client.recv(1)
            if then != "close":
                reset(client)
