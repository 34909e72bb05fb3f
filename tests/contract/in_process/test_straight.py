"""What a session awaits in the place of its handler: steps go past it, and all else is as ever."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import anysock
from anysock.engines.current import current_engine
from anysock.engines.straight import straight
from anysock.machine import compiled
from anysock.streams.connection import Connection
from tests.contract.in_process.test_streams import two_ends

needs_compiled = pytest.mark.skipif(
    compiled.fast is None, reason=f"there is no compiled path: {compiled.why_not}"
)


async def around(awaitable: Awaitable[Any]) -> Any:
    """What stands around a handler, as a session does."""
    return await straight(current_engine().current_task(), awaitable)


def serve(handler: Callable[[Connection], Any], engine: str, questions: int = 3) -> Any:
    """What a task that runs `handler` within `around` has come to, with so many questions."""

    async def main() -> Any:
        async with two_ends(Connection) as (client, connection):
            async with anysock.task_group() as group:
                task = group.spawn(caught(around(handler(connection))))
                for _ in range(questions):
                    await client.send_all(b"x")
                    assert await client.recv() == b"x"
                await client.send_eof()
                return await task.join()

    async def caught(awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except Exception as error:  # noqa: BLE001
            return error

    return anysock.run(main, engine=engine)


async def echo(connection: Connection) -> int:
    count = 0
    while data := await connection.recv():
        await connection.send_all(data)
        count += 1
    return count


def test_what_it_returns_is_returned(concurrent_engine):
    assert serve(echo, concurrent_engine) == 3


def test_what_it_raises_has_the_traceback_of_all_frames(concurrent_engine):
    async def fails(connection: Connection) -> None:
        await echo(connection)
        raise LookupError("on purpose")

    raised = serve(fails, concurrent_engine)
    assert isinstance(raised, LookupError)
    names = [frame.name for frame in traceback.extract_tb(raised.__traceback__)]
    assert names[-2:] == ["around", "fails"]
    assert raised.__context__ is None


def test_what_is_raised_where_it_waits_may_be_caught(concurrent_engine):
    heard: list[str] = []

    async def waits(connection: Connection) -> None:
        await connection.send_all(await connection.recv())
        async with anysock.move_on_after(0.01):
            await anysock.sleep(60)
        heard.append("moved on")
        await connection.send_all(await connection.recv())
        try:
            async with anysock.timeout(0.01):
                await anysock.sleep(60)
        finally:
            heard.append("cleaned up")

    assert isinstance(serve(waits, concurrent_engine, 2), TimeoutError)
    assert heard == ["moved on", "cleaned up"]


def test_one_may_be_within_another(concurrent_engine):
    async def both(connection: Connection) -> tuple[bytes, int]:
        first = await connection.recv()
        await connection.send_all(first)
        return first, await around(echo(connection))

    assert serve(both, concurrent_engine) == (b"x", 2)


@needs_compiled
@pytest.mark.parametrize("engine", ["selector", "uring"])
def test_steps_go_past_what_is_around(engine):
    """Or all of this is for nothing."""
    callers: list[str] = []

    async def looks(connection: Connection) -> None:
        while data := await connection.recv():
            caller = sys._getframe().f_back
            assert caller is not None
            callers.append(caller.f_code.co_name)
            await connection.send_all(data)

    serve(looks, engine)
    assert callers[-1] == "iterate"


@needs_compiled
def test_what_is_awaited_may_be_anything_that_can_be():
    class Ready:
        def __await__(self) -> Any:
            return "ready"
            yield

    async def main() -> list[Any]:
        return [await around(Ready()), await around(anysock.sleep(0))]

    assert anysock.run(main) == ["ready", None]

    async def wrong() -> None:
        await around(7)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="int"):
        anysock.run(wrong)


@needs_compiled
def test_it_is_awaited_once():
    async def main() -> None:
        once = straight(current_engine().current_task(), anysock.sleep(0))
        await once
        with pytest.raises(RuntimeError, match="awaited already"):
            await once
        closed: Any = straight(current_engine().current_task(), anysock.sleep(0))
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="awaited already"):
            closed.throw(KeyError())

    anysock.run(main)


@needs_compiled
@pytest.mark.parametrize("engine", ["selector", "uring"])
def test_nothing_is_left_of_it(engine):
    async def fails(connection: Connection) -> None:
        await echo(connection)
        raise LookupError("on purpose")

    gc.collect()
    gc.disable()
    try:
        for handler in (echo, fails):
            serve(handler, engine)
        assert compiled.fast is not None
        left = [each for each in gc.get_objects() if type(each) is compiled.fast.Straight]
        assert not left
    finally:
        gc.enable()
