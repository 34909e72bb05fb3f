"""Reading and writing as protocols do: separators, frames, pieces, files, relays."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile

import pytest

import anysock
from anysock.engines.posix.streams import IOV_MAX
from tests.harness import CONCURRENT_ENGINES, SIMULATED


def serve(engine, handler, talk):
    """Serve `handler`, and `talk(connection)` with it; the result of each."""
    results = []

    async def noted(connection):
        results.append(await handler(connection))

    async def main():
        async with (
            anysock.Server(noted, bind="127.0.0.1:0") as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            answer = await talk(connection)
        return [*results, answer]

    return anysock.run(main, engine=engine)


async def everything(connection):
    data = b""
    async for chunk in connection:
        data += chunk
    return data


def test_recv_until(concurrent_engine):
    async def handler(connection):
        head = await connection.recv_until(b"\r\n\r\n")
        one = await connection.recv_until((b";", b"\n"))
        two = await connection.recv_until([b";", b"\n"])
        three = await connection.recv_until([b";", b"\n"])
        with pytest.raises(anysock.MessageTooLong) as too_long:
            await connection.recv_until(b"!", max_bytes=5)
        assert connection.fault is too_long.value
        with pytest.raises(anysock.EndOfStream, match="after 6 bytes") as ended:
            await connection.recv_until(b"!", max_bytes=6)
        return head, one, two, three, too_long.value.limit, ended.value.partial

    async def talk(connection):
        for piece in (b"GET /\r\n", b"\r", b"\n\r", b"\na;", b"b\n123456"):
            await connection.send_all(piece)
        await connection.send_eof()
        return await connection.recv()

    got, answer = serve(concurrent_engine, handler, talk)
    assert got == (b"GET /\r\n\r\n", b"\r\n", b"a;", b"b\n", 5, b"123456")
    assert answer == b""


@pytest.mark.parametrize("separator", [b"", (), (b"a", b"")])
def test_recv_until_nothing_is_refused(separator):
    async def handler(connection):
        with pytest.raises(anysock.UsageError, match="a separator of at least one byte"):
            await connection.recv_until(separator)

    async def talk(connection):
        return await connection.recv()

    serve("selector", handler, talk)


@pytest.mark.parametrize("prefix", [1, 2, 4, 8, "varint"])
def test_frames(concurrent_engine, prefix):
    frames = [b"", b"a", b"x" * 200, b"" if prefix == 1 else b"y" * 70_000]
    if prefix == 2:
        frames[-1] = b"y" * 65_535

    async def handler(connection):
        async for frame in connection.frames(prefix, byteorder="little"):
            await connection.send_frame(frame, prefix, byteorder="little")

    async def talk(connection):
        for frame in frames:
            await connection.send_frame(frame, prefix, byteorder="little")
        await connection.send_eof()
        came = []
        while batch := await connection.recv_frames(prefix, byteorder="little"):
            came += batch
        with pytest.raises(anysock.EndOfStream):
            await connection.recv_frame(prefix)
        return came

    _, came = serve(concurrent_engine, handler, talk)
    assert came == frames


def test_a_stream_that_ends_within_a_frame_does_not_end_well(concurrent_engine):
    async def handler(connection):
        async for _ in connection.frames(2):
            pytest.fail("no frame has come")

    async def talk(connection):
        await connection.send_all(b"\x00\x05abc")
        await connection.send_eof()
        return await connection.recv()

    events = []

    class Watching(anysock.Events):
        def handler_failed(self, connection, error):
            events.append(error)

        def connection_closed(self, connection, reason, lost):
            events.append((reason, connection.fault.partial))

    async def main():
        async with (
            anysock.Server(handler, bind="127.0.0.1:0", events=Watching()) as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            assert await talk(connection) == b""

    anysock.run(main, engine=concurrent_engine)
    assert events == [(anysock.CloseReason.LOST, b"\x00\x05abc")]


@pytest.mark.parametrize("how", ["recv_frame", "recv_until", "recv_exactly"])
def test_a_stream_that_ends_between_two_messages_has_ended_well(concurrent_engine, how):
    arguments = {"recv_frame": (1,), "recv_until": (b"b",), "recv_exactly": (2,)}[how]
    reasons = []

    async def handler(connection):
        while await getattr(connection, how)(*arguments):
            pass

    class Watching(anysock.Events):
        def connection_closed(self, connection, reason, lost):
            reasons.append((reason, lost))

    async def main():
        async with (
            anysock.Server(handler, bind="127.0.0.1:0", events=Watching()) as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            await connection.send_all(b"\x01b")
            await connection.send_eof()
            assert await connection.recv() == b""

    anysock.run(main, engine=concurrent_engine)
    assert reasons == [(anysock.CloseReason.DONE, None)]


def test_a_frame_that_is_too_long_is_no_failure_of_the_handler(concurrent_engine):
    async def handler(connection):
        await connection.recv_frame(4, max_bytes=10)

    reasons = []

    class Watching(anysock.Events):
        def connection_closed(self, connection, reason, lost):
            reasons.append((reason, str(lost)))

    async def main():
        async with (
            anysock.Server(handler, bind="127.0.0.1:0", events=Watching()) as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            await connection.send_all(b"\x00\x00\x00\x0b")
            assert await connection.recv() == b""

    anysock.run(main, engine=concurrent_engine)
    assert reasons == [(anysock.CloseReason.MAX_BYTES, "frame longer than 10 bytes")]


def test_a_batch_is_answered_by_one_send(concurrent_engine):
    async def handler(connection):
        sizes = []
        while lines := await connection.recv_lines():
            sizes.append(len(lines))
            await connection.send_all([line.upper() for line in lines])
        return sizes

    async def talk(connection):
        # In one segment, and the end of the last line in another.
        await connection.send_all(b"a\nb\nc\nd")
        first = await connection.recv_exactly(6)
        await connection.send_all(b"\n")
        second = await connection.recv_line()
        await connection.send_eof()
        return first, second, await connection.recv()

    sizes, answers = serve(concurrent_engine, handler, talk)
    assert sizes == [3, 1]
    assert answers == (b"A\nB\nC\n", b"D\n", b"")


def test_what_is_buffered_can_be_seen_and_put_back(concurrent_engine):
    async def handler(connection):
        assert (connection.peek(), connection.buffered) == (b"", 0)
        first = await connection.recv_exactly(2)
        seen = connection.peek(), connection.peek(1), connection.buffered
        connection.unread(b"12")
        room = bytearray(3)
        size = await connection.recv_into(room)
        with pytest.raises(anysock.UsageError, match="room for at least one byte"):
            await connection.recv_into(bytearray())
        with pytest.raises(anysock.UsageError, match="can be written to"):
            await connection.recv_into(memoryview(b"read-only"))
        return first, seen, room[:size], await connection.recv(), await connection.recv()

    async def talk(connection):
        await connection.send_all(b"abcd")
        await connection.send_eof()
        return await connection.recv()

    got, _ = serve(concurrent_engine, handler, talk)
    assert got == (b"ab", (b"cd", b"c", 2), b"12c", b"d", b"")


def test_a_receive_that_need_not_wait_lets_no_other_task_run(concurrent_engine):
    """What is buffered comes without a task switch; but every so often the others run."""
    if concurrent_engine == "threads":
        pytest.skip("threads run whenever they want to")

    async def handler(connection):
        others = []
        await connection.recv_line()

        async def other():
            others.append(1)

        task = anysock.spawn(other())
        for _ in range(10):
            assert await connection.recv_line() == b"\n"
            assert await connection.recv_until(b"\n") == b"\n"
            assert await connection.recv_exactly(1) == b"\n"
            assert await connection.recv_frame(1) == b"\n"
        assert not others
        while not others:
            assert await connection.recv_line() == b"\n"
        await task.join()
        return connection.buffered

    async def talk(connection):
        await connection.send_all(b"\n" + b"\n\n\n\x01\n" * 10 + b"\n" * 100)
        return await connection.recv()

    left, _ = serve(concurrent_engine, handler, talk)
    assert left > 0


@pytest.mark.parametrize("count", [3, 2 * IOV_MAX + 1], ids=["few", "more-than-IOV_MAX"])
@pytest.mark.parametrize("size", [10, 1000])
def test_pieces_are_sent_as_one(concurrent_engine, count, size):
    pieces = [bytes([number % 256]) * size for number in range(count)]
    mixed = [b"", *pieces[:-1], memoryview(bytearray(pieces[-1]))]

    async def handler(connection):
        await connection.send_all(mixed)
        await connection.send_all(tuple(pieces))
        await connection.send_all([])
        return connection.bytes_sent

    _sent, came = serve(concurrent_engine, handler, everything)
    assert came == b"".join(pieces) * 2
    assert _sent == len(came)


def test_pieces_wait_for_a_peer_that_does_not_read(concurrent_engine):
    pieces = [bytes([number]) * 300_000 for number in range(20)]

    async def handler(connection):
        await connection.send_all(pieces)
        await connection.send_all([b"last"])

    async def talk(connection):
        await anysock.sleep(0.05)
        return await everything(connection)

    _, came = serve(concurrent_engine, handler, talk)
    assert came == b"".join(pieces) + b"last"


async def until(happened):
    while not happened:
        await anysock.sleep(0.01)


def test_pieces_that_are_given_up_break_the_stream(concurrent_engine):
    given_up = []

    async def handler(connection):
        while not connection.bytes_sent:
            async with anysock.move_on_after(0.05) as scope:
                await connection.send_all([b"x" * 100_000] * 500)
            assert scope.fired
        with pytest.raises(anysock.StreamBroken):
            await connection.send_all([b"more", b"of it"])
        given_up.append(True)

    async def talk(connection):
        await until(given_up)
        return len(await everything(connection))

    _, size = serve(concurrent_engine, handler, talk)
    assert size < 50_000_000


@pytest.mark.parametrize("pieces", [["text"], [b"a", None], "text"])
def test_what_is_no_bytes_is_a_type_error(concurrent_engine, pieces):
    async def handler(connection):
        with pytest.raises(TypeError):
            await connection.send_all(pieces)
        await connection.send_all(b"still fine")

    _, came = serve(concurrent_engine, handler, everything)
    assert came == b"still fine"


@pytest.fixture
def big_file():
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(3_000_000))
        file.flush()
        yield file


def test_send_file(concurrent_engine, big_file):
    big_file.seek(5)

    async def handler(connection):
        return (
            await connection.send_file(big_file),
            await connection.send_file(big_file, 10, 20),
            await connection.send_file(big_file, 2_999_990, 1000),
            await connection.send_file(big_file, 4_000_000),
            connection.bytes_sent,
            big_file.tell(),
        )

    async def talk(connection):
        await anysock.sleep(0.05)  # so that the sender has to wait
        return await everything(connection)

    sent, came = serve(concurrent_engine, handler, talk)
    assert sent == (3_000_000, 20, 10, 0, 3_000_030, 5)
    whole = os.pread(big_file.fileno(), 4_000_000, 0)
    assert came == whole + whole[10:30] + whole[2_999_990:]


def test_a_file_that_is_given_up_breaks_the_stream(concurrent_engine, tmp_path):
    given_up = []
    with open(tmp_path / "sparse", "w+b") as file:
        file.truncate(200_000_000)

        async def handler(connection):
            while not connection.bytes_sent:
                async with anysock.move_on_after(0.05) as scope:
                    await connection.send_file(file)
                assert scope.fired
            with pytest.raises(anysock.StreamBroken):
                await connection.send_all(b"more")
            given_up.append(True)

        async def talk(connection):
            await until(given_up)
            return len(await everything(connection))

        _, size = serve(concurrent_engine, handler, talk)
    assert size < 200_000_000


def test_a_file_that_is_closed_while_it_is_sent_breaks_the_stream(concurrent_engine, tmp_path):
    given_up = []
    with open(tmp_path / "sparse", "w+b", buffering=0) as file:
        file.truncate(200_000_000)

        async def handler(connection):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await connection.send_file(file)
            with pytest.raises(anysock.StreamBroken):
                await connection.send_all(b"more")
            given_up.append(True)

        async def talk(connection):
            await connection.recv()
            file.close()
            size = len(await everything(connection))
            await until(given_up)
            return size

        _, size = serve(concurrent_engine, handler, talk)
    assert size < 200_000_000


def test_send_file_refuses_what_is_no_file(concurrent_engine, tmp_path):
    async def handler(connection):
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe, open(writer, "wb"):
            with pytest.raises(anysock.UsageError, match="a regular file"):
                await connection.send_file(pipe)
        with pytest.raises(anysock.UsageError, match="an open file"):
            await connection.send_file(b"text")
        with open(tmp_path / "written", "wb") as file:
            file.write(b"a line")
            file.flush()
            with pytest.raises(anysock.UsageError, match="open for reading"):
                await connection.send_file(file)

    serve(concurrent_engine, handler, everything)


def test_relay(concurrent_engine):
    """Both ways at once, with the half-close of each side carried over."""
    counts = []

    async def upstream(connection):
        hello = await connection.recv_line()
        rest = await everything(connection)  # to the client's end of the stream
        await connection.send_all([hello, b"%d" % len(rest), b"!"])

    async def main():
        async with anysock.Server(upstream, bind="127.0.0.1:0") as behind:

            async def proxy(client):
                async with await anysock.connect(behind.addresses[0]) as server:
                    client.unread(await client.recv_exactly(3))
                    counts.append(await anysock.relay(client, server))

            async with (
                anysock.Server(proxy, bind="127.0.0.1:0") as front,
                await anysock.connect(front.addresses[0]) as client,
            ):
                await client.send_all(b"hello\n")
                await client.send_all(b"x" * 1_000_000)
                await client.send_eof()
                return await everything(client)

    assert anysock.run(main, engine=concurrent_engine) == b"hello\n1000000!"
    assert counts == [(1_000_006, 14)]


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_relay_tells_each_side_of_the_loss_of_the_other(concurrent_engine, who):
    caught = []

    async def main():
        ready, done = anysock.Event(), anysock.Event()

        async def upstream(connection):
            await connection.recv()
            if who == "server":
                connection.abort()
                return
            ready.set()
            try:
                while await connection.recv():
                    pass
            except ConnectionError as error:
                caught.append(type(error))
            done.set()

        async with anysock.Server(upstream, bind="127.0.0.1:0") as behind:

            async def proxy(client):
                async with await anysock.connect(behind.addresses[0]) as server:
                    try:
                        await anysock.relay(client, server)
                    except ConnectionResetError as error:
                        caught.append(type(error))

            async with anysock.Server(proxy, bind="127.0.0.1:0") as front:
                client = await anysock.connect(front.addresses[0])
                await client.send_all(b"hello")
                if who == "client":
                    await ready.wait()
                    client.abort()
                    await client.close()
                    await done.wait()
                else:
                    with contextlib.suppress(ConnectionError):
                        assert await client.recv()
                    assert client.stream.lost is not None
                    await client.close()

    anysock.run(main, engine=concurrent_engine)
    assert caught == [ConnectionResetError] * (2 if who == "client" else 1)


def test_a_relay_needs_two_tasks():
    async def main():
        await anysock.relay(None, None)  # type: ignore[arg-type]

    with pytest.raises(anysock.UsageError, match="'blocking' does one thing at a time"):
        anysock.run(main, engine="blocking")


def test_keepalive(concurrent_engine):
    async def handler(connection):
        sock = connection.stream._sock
        told = []
        for idle in (30, None):
            connection.keepalive(idle, interval=5, probes=3)
            told.append(
                (
                    bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
                )
            )
        with pytest.raises(anysock.UsageError, match="the system refuses it"):
            connection.keepalive(-1)
        assert connection.peer_credentials is None
        return told

    told, _ = serve(concurrent_engine, handler, everything)
    assert told == [(True, 30, 5, 3), (False, 30, 5, 3)]


@pytest.mark.parametrize("engine", [*CONCURRENT_ENGINES, *SIMULATED])
def test_peer_credentials(engine, tmp_path):
    told = []

    async def handler(connection):
        connection.keepalive()  # does nothing there
        told.append(connection.peer_credentials)

    async def main():
        async with (
            anysock.Server(handler, bind=f"unix://{tmp_path}/socket") as server,
            await anysock.connect(server.addresses[0]) as connection,
        ):
            assert await connection.recv() == b""

    anysock.run(main, engine=engine)
    assert told == [(os.getpid(), os.getuid(), os.getgid())]
    assert told[0].pid == os.getpid()
