"""The compiled path of a message: it does what the Python beside it does, whatever it is given."""

from __future__ import annotations

import gc
import os
import select
import shutil
import socket
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


def test_a_connection_hands_out_what_its_stream_does_now():
    """Also when that is another than before, or something is buffered."""

    class Other:
        vectored = False

        def __init__(self, name: bytes) -> None:
            self.name = name
            self.sent: list[bytes] = []

        def around(self, _: Any) -> Any:
            return self

        async def recv(self, max_bytes: int | None = None) -> bytes:
            return self.name[:max_bytes]

        async def send_all(self, data: bytes) -> None:
            self.sent.append(data)

    class Another(Other):
        async def recv(self, max_bytes: int | None = None) -> bytes:
            return b"another"

    async def test(near, far):
        connection: Any = anysock.Connection(near)
        assert not vars(connection)  # two bound methods would cost 144 bytes
        await far.send_all(b"hello\nrest")
        assert await connection.recv(max_bytes=3) == b"hel"
        assert await connection.recv_line() == b"lo\n"
        assert await connection.recv(2) == b"re"
        assert await connection.recv() == b"st"
        await connection.send_all([b"a", b"b"])
        assert await far.recv() == b"ab"
        with pytest.raises(TypeError):
            connection.recv(1, 2)
        with pytest.raises(TypeError):
            connection.recv(no_such=1)
        stand_in: Any
        for stand_in, received in ((Other(b"other"), b"ot"), (Another(b"x"), b"another")):
            connection.wrap(stand_in.around)
            assert await connection.recv(2) == received
            await connection.send_all(b"one")
            await connection.send_all((b"t", b"wo"))
            assert stand_in.sent == [b"one", b"two"]
        stand_in.recv = Other(b"its own").recv
        assert await connection.recv(3) == b"its"
        original, Another.recv = Another.recv, Other.recv  # type: ignore[method-assign]
        del stand_in.recv
        assert await connection.recv() == b"x"
        Another.recv = original  # type: ignore[method-assign]
        assert await connection.recv() == b"another"

    with_streams(test)


def test_methods_in_c_of_another_type_are_not_called_with_a_stream():
    """As its function would take the stream for one of its own."""

    class Stream:
        vectored = False
        recv = send_all = list.append

    connection: Any = anysock.Connection(Stream())  # type: ignore[arg-type]
    for call in (lambda: connection.recv(5), lambda: connection.send_all(b"x")):
        with pytest.raises(TypeError, match="list"):
            call()


def test_the_numbers_of_a_message_are_fields_and_its_receive_is_used_again():
    async def test(near, far):
        assert compiled.fast is not None
        assert isinstance(near, compiled.fast.Fields)
        await near.send_all(b"1")
        assert await far.recv() == b"1"
        made = set()
        for _ in range(100):
            receive = far.recv()
            made.add(id(receive))
            await near.send_all(b"2")
            assert await receive == b"2"
            del receive
        assert len(made) == 1
        assert (near.bytes_sent, far.bytes_received) == (101, 101)

    with_streams(test)


def accepted_socket(blocking: bool = False) -> tuple[Any, socket.socket, Any]:
    """What the compiled accept gives, with its peer, and the address that it tells."""
    assert compiled.fast is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        accepted = compiled.fast.accept(listener.fileno(), blocking)
    return accepted, peer, accepted.peer()


@pytest.mark.parametrize("blocking", [False, True])
def test_what_is_accepted_becomes_a_socket_when_it_is_asked_for_more(blocking):
    accepted, peer, address = accepted_socket(blocking)
    with peer:
        assert address == peer.getsockname()
        fd = accepted.fileno()
        assert os.get_blocking(fd) == blocking
        assert not os.get_inheritable(fd)
        assert accepted.getpeername() == address
        assert (accepted.family, accepted.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert accepted.fileno() == fd
        assert os.get_blocking(fd) == blocking
        peer.sendall(b"x")
        assert accepted.recv(1) == b"x" if blocking else select.select([accepted], [], [], 5)[0]
        accepted.close()
        accepted.close()
        assert accepted.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            accepted.getpeername()


def test_what_is_accepted_has_what_a_socket_has_and_nothing_else():
    accepted, peer, _ = accepted_socket()
    with peer:
        assert not hasattr(accepted, "taken_at")
        accepted.close()
        assert not hasattr(accepted, "taken_at")
        with pytest.raises(OSError, match="Bad file descriptor"):
            accepted.getsockname()


def test_what_is_accepted_is_closed_once_and_can_be_given_away():
    accepted, peer, address = accepted_socket()
    with peer:
        accepted.close()
        assert accepted.fileno() == -1
        accepted.close()
        assert peer.recv(1) == b""
        assert accepted.peer() == address
    accepted, peer, _ = accepted_socket()
    with peer:
        fd = accepted.fileno()
        assert accepted.detach() == fd
        assert accepted.fileno() == -1
        accepted.close()
        os.close(fd)
    accepted, peer, _ = accepted_socket()
    held = [accepted]
    del accepted
    with peer, pytest.warns(ResourceWarning, match="unclosed"):
        held.clear()


def test_accept_raises_what_the_system_says():
    assert compiled.fast is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            compiled.fast.accept(listener.fileno(), False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        compiled.fast.accept(-1, False)
    with pytest.raises(TypeError):
        compiled.fast.accept("x", False)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_only_ipv4_is_accepted_so():
    """Others have addresses that Python's own `accept` knows how to tell."""
    from anysock.machine.listening_socket import compiled_accept, quick_to_accept

    assert compiled.fast is not None
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no ::1 here")
    with quick_to_accept(listener) as listener:
        assert compiled_accept(listener, blocking=False) is None
        with (
            socket.create_connection(listener.getsockname()[:2]),
            pytest.raises(ValueError, match="IPv4"),
        ):
            compiled.fast.accept(listener.fileno(), False)
