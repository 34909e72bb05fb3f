"""The compiled path of a message: it does what the Python beside it does, whatever it is given."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import anysock
from anysock.engines.nonblocking.sockets import _STREAM
from anysock.engines.nonblocking.streams import NonblockingStream
from anysock.machine import compiled

# Where there are a compiler and Python's headers, it must have been built.
_COULD_BE_BUILT = (Path(sysconfig.get_path("include")) / "Python.h").exists() and shutil.which("cc")

pytestmark = pytest.mark.skipif(
    compiled.fast is None and not (os.environ.get("CI") and _COULD_BE_BUILT),
    reason=f"there is no compiled path: {compiled.why_not}",
)


def test_it_is_there_where_it_should_be():
    assert compiled.fast is not None, compiled.why_not


def with_streams(test: Any) -> Any:
    """Run ``test(near, far)`` with the streams of both ends of a connection."""

    async def main() -> Any:
        ends: list[anysock.Connection] = []
        over = current_event()

        async def keep(connection: anysock.Connection) -> None:
            ends.append(connection)
            await over.wait()

        async with anysock.Server(keep, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                while not ends:
                    await anysock.sleep(0)
                try:
                    return await test(connection.stream, ends[0].stream)
                finally:
                    over.set()

    return anysock.run(main, engine="selector")


def current_event() -> Any:
    from anysock.engines.current import current_engine

    return current_engine().event()


def test_streams_are_of_the_compiled_class():
    async def test(near, _far):
        assert type(near) is _STREAM is not NonblockingStream
        assert isinstance(near, NonblockingStream)

    with_streams(test)


@pytest.mark.parametrize("data", [None, 7, "text", {}, 1.5, [b"a", "b"]], ids=repr)
def test_what_is_no_bytes_is_refused(data):
    async def test(near, far):
        with pytest.raises(TypeError):
            await near.send_all(data)
        await near.send_all(b"and then it works")
        assert await far.recv() == b"and then it works"

    with_streams(test)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytearray(b"xy"), memoryview(b"xyz")[1:]],
    ids=["nothing", "bytes", "bytearray", "memoryview"],
)
def test_what_is_bytes_is_sent(data):
    async def test(near, far):
        await near.send_all(data)
        await near.send_all(b".")
        received = b""
        while len(received) < len(data) + 1:
            received += await far.recv()
        assert received == bytes(data) + b"."

    with_streams(test)


@pytest.mark.parametrize("arguments", [("7",), (1.5,), (-1,), (1, 2), (2**80,)], ids=repr)
def test_how_much_is_received_is_a_number(arguments):
    async def test(near, far):
        await near.send_all(b"hello")
        assert await far.recv() == b"hello"  # from now on it waits first: the compiled way
        await near.send_all(b"hello")
        with pytest.raises((TypeError, ValueError, OverflowError)):
            await far.recv(*arguments)
        with pytest.raises(TypeError):
            far.recv(no_such=1)
        assert await far.recv(max_bytes=2) == b"he"
        assert await far.recv(None) == b"llo"

    with_streams(test)


def test_a_receive_is_awaited_once():
    async def test(near, far):
        await near.send_all(b"1")
        assert await far.recv() == b"1"
        receive = far.recv()
        await near.send_all(b"2")
        assert await receive == b"2"
        with pytest.raises(RuntimeError, match="awaited already"):
            await receive
        far.recv()  # one that nobody awaits is no error
        await near.send_all(b"3")
        assert await far.recv() == b"3"

    with_streams(test)


def test_a_receive_can_be_iterated_as_python_does():
    async def test(near, far):
        await near.send_all(b"1")
        assert await far.recv() == b"1"
        await near.send_all(b"2")
        steps = far.recv()
        assert next(steps) is far._readable
        with pytest.raises(StopIteration) as stop:
            next(steps)
        assert stop.value.value == b"2"
        with pytest.raises(RuntimeError):
            next(steps)

    with_streams(test)


def test_a_receive_that_was_begun_meets_a_close():
    async def test(near, far):
        await near.send_all(b"1")
        assert await far.recv() == b"1"
        steps = far.recv()
        next(steps)
        await far.close()
        with pytest.raises(anysock.StreamClosed):
            next(steps)
        with pytest.raises(anysock.StreamClosed):
            await far.recv()
        with pytest.raises(anysock.StreamClosed):
            await far.send_all(b"x")

    with_streams(test)


def test_nothing_is_left_of_messages_and_cancelled_receives():
    """`sys.gettotalrefcount` is not in a usual build: what lives is counted."""

    async def work(near: Any, far: Any, times: int) -> None:
        for _ in range(times):
            await near.send_all(b"hello")
            assert await far.recv() == b"hello"
            async with anysock.move_on_after(0):
                await far.recv()
            far.recv()
            with pytest.raises(TypeError):
                far.recv(1, 2)

    async def test(near, far):
        await work(near, far, 50)
        gc.collect()
        refs = [sys.getrefcount(each) for each in (near, far, near._readable, far._readable)]
        objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
        await work(near, far, 2_000)
        gc.collect()
        assert [
            sys.getrefcount(each) for each in (near, far, near._readable, far._readable)
        ] == refs
        assert len(gc.get_objects()) - objects < 50
        assert sys.getallocatedblocks() - blocks < 500

    with_streams(test)


def test_nothing_is_left_of_connections():
    async def main():
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:

            async def once() -> None:
                async with await anysock.connect(server.addresses[0]) as connection:
                    await connection.send_all(b"hello")
                    assert await connection.recv() == b"hello"

            for _ in range(20):
                await once()
            gc.collect()
            objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
            for _ in range(500):
                await once()
            gc.collect()
            assert len(gc.get_objects()) - objects < 100
            assert sys.getallocatedblocks() - blocks < 2_000

    anysock.run(main, engine="selector")


def test_a_turn_refuses_what_is_no_kernel():
    assert compiled.fast is not None
    for arguments in ((), (1, 2), (object(), "x", 0.0), (object(), -1, 0.0), (object(), 0, "x")):
        with pytest.raises((TypeError, OSError, AttributeError)):
            compiled.fast.turn(*arguments)


def test_methods_are_bound_to_classes_with_slots_alone():
    assert compiled.fast is not None
    with pytest.raises((TypeError, AttributeError)):
        compiled.fast.bind(int, int, None, 0, 0)
    program = "from anysock import _fast; _fast.bind(type('A', (), {'_fd': 1}), object, None, 0, 0)"
    assert (
        b"TypeError"
        in subprocess.run(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, check=False
        ).stderr
    )


def test_pure_python_is_chosen_by_the_environment():
    program = "from anysock.machine import compiled; print(compiled.fast, compiled.in_words())"
    told = subprocess.check_output(
        [sys.executable, "-c", program], env={**os.environ, "ANYSOCK_PURE": "1"}, text=True
    )
    assert told == "None pure Python (ANYSOCK_PURE is set)\n"
