"""The toolkit as a library: what a handler, a test or a program of one's own may call."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import anysock
from anysock.engines import make_engine
from anysock.engines.current import current_engine
from tests.harness import CONCURRENT_ENGINES, ENGINES, PATIENCE


def run(engine: str, main):
    """Run a test's coroutine function under `engine`."""
    return anysock.run(main, engine=engine)


# -- Connection ---------------------------------------------------------------------------------


async def dialogue(handler, talk):
    """Serve `handler`, and `talk(connection)` with it; the results of both."""
    results = []

    async def noted(connection):
        results.append(await handler(connection))

    async with (
        anysock.Server(noted, bind="127.0.0.1:0") as server,
        await anysock.connect(server.addresses[0]) as connection,
    ):
        answer = await talk(connection)
    return [*results, answer]


def test_recv_exactly(concurrent_engine):
    async def handler(connection):
        return [await connection.recv_exactly(size) for size in (3, 0, 1, 100_000)]

    async def talk(connection):
        for piece in (b"a", b"bcd", b"x" * 50_000, b"x" * 50_000):
            await connection.send_all(piece)
        await connection.send_eof()
        return await connection.recv()

    got, answer = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert got == [b"abc", b"", b"d", b"x" * 100_000]
    assert answer == b""


def test_recv_exactly_tells_what_is_missing(concurrent_engine):
    async def handler(connection):
        with pytest.raises(anysock.EndOfStream) as caught:
            await connection.recv_exactly(10)
        return caught.value.partial, caught.value.expected, await connection.recv()

    async def talk(connection):
        await connection.send_all(b"only 6")
        await connection.send_eof()
        return await connection.recv()

    got, _ = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert got == (b"only 6", 10, b"")


def test_lines_and_bytes_may_be_mixed(concurrent_engine):
    """A length in a line, then so many bytes, then what is left: nothing is lost between them."""

    async def handler(connection):
        size = int(await connection.recv_line())
        body = await connection.recv_exactly(size)
        part = await connection.recv(2)
        rest = [chunk async for chunk in connection]
        return body, part, b"".join(rest)

    async def talk(connection):
        await connection.send_all(b"5\r\nhelloand the rest\nof it")
        await connection.send_eof()
        return await connection.recv()

    got, _ = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert got == (b"hello", b"an", b"d the rest\nof it")


def test_lines_end_with_what_is_left(concurrent_engine):
    async def handler(connection):
        return [line async for line in connection.lines()]

    async def talk(connection):
        await connection.send_all(b"one\r\ntwo\n\nrest")
        await connection.send_eof()
        return await connection.recv()

    got, _ = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert got == [b"one\r\n", b"two\n", b"\n", b"rest"]


def test_a_line_that_is_too_long(concurrent_engine):
    async def handler(connection):
        with pytest.raises(anysock.LineTooLong) as caught:
            await connection.recv_line(10)
        return caught.value.limit, await connection.recv_exactly(12)

    async def talk(connection):
        await connection.send_all(b"x" * 12)
        return await connection.recv()

    got, _ = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert got == (10, b"x" * 12)


def test_what_a_connection_knows_of_itself(concurrent_engine):
    async def handler(connection):
        await connection.recv_exactly(5)
        await connection.send_all(b"hello, you")
        return connection.peer, connection.local, connection.bytes_received, connection.bytes_sent

    async def talk(connection):
        await connection.send_all(b"hello")
        assert await connection.recv_exactly(10) == b"hello, you"
        assert repr(connection) == f"<Connection from {connection.peer}>"
        return connection.peer, connection.local, connection.bytes_received, connection.bytes_sent

    theirs, ours = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert theirs == (ours[1], ours[0], 5, 10)
    assert ours[2:] == (10, 5)


def test_a_closed_connection_says_so(concurrent_engine):
    async def handler(connection):
        await connection.send_all(b"welcome")
        return await connection.recv()

    async def talk(connection):
        await connection.recv()
        await connection.close()
        await connection.close()
        for use in (connection.recv, connection.send_eof, lambda: connection.send_all(b"x")):
            with pytest.raises(anysock.StreamClosed):
                await use()

    assert run(concurrent_engine, lambda: dialogue(handler, talk)) == [b"", None]


def test_abort_is_a_reset_for_the_peer_and_an_error_for_us(concurrent_engine):
    async def handler(connection):
        await connection.recv()
        connection.abort()
        with pytest.raises(ConnectionAbortedError):
            await connection.recv()

    async def talk(connection):
        await connection.send_all(b"x")
        with pytest.raises(ConnectionResetError):
            await connection.recv()

    assert run(concurrent_engine, lambda: dialogue(handler, talk)) == [None, None]


def test_receiving_and_sending_at_the_same_time(concurrent_engine):
    """A task that receives beside one that sends, on one connection: what a proxy needs."""
    size = 3_000_000

    async def handler(connection):
        async for chunk in connection:
            await connection.send_all(chunk)

    async def talk(connection):
        async def send():
            await connection.send_all(b"x" * size)
            await connection.send_eof()

        sender = anysock.spawn(send())
        received = 0
        async for chunk in connection:
            received += len(chunk)
        await sender.join()
        return received

    assert run(concurrent_engine, lambda: dialogue(handler, talk)) == [None, size]


# -- run, sleep, spawn, timeout, connect --------------------------------------------------------


def test_run_returns_the_result_and_raises_the_exception(engine):
    async def good(number):
        await anysock.sleep(0)
        return number

    async def bad():
        await anysock.sleep(0)
        raise ValueError("mine")

    assert anysock.run(good, 42, engine=engine) == 42
    with pytest.raises(ValueError, match="mine"):
        anysock.run(bad, engine=engine)


def test_sleep_takes_its_time(engine):
    async def main():
        began = current_engine().now()
        await anysock.sleep(0.05)
        return current_engine().now() - began

    assert 0.04 < run(engine, main) < 2


def test_timeouts_nest_and_know_which_of_them_fired(engine):
    async def main():
        with pytest.raises(TimeoutError):
            async with anysock.timeout(0.02):
                async with anysock.timeout(30):
                    await anysock.sleep(30)
        async with anysock.timeout(30):
            with pytest.raises(TimeoutError):
                async with anysock.timeout(0.02):
                    await anysock.sleep(30)
            await anysock.sleep(0)
        async with anysock.timeout(None):
            await anysock.sleep(0)
        return "done"

    assert run(engine, main) == "done"


def test_a_timeout_bounds_a_receive_and_the_connection_lives_on(concurrent_engine):
    async def handler(connection):
        with pytest.raises(TimeoutError):
            async with anysock.timeout(0.05):
                await connection.recv()
        await connection.send_all(b"too late")
        return await connection.recv()

    async def talk(connection):
        answer = await connection.recv()
        await connection.send_all(b"sorry")
        return answer

    got, answer = run(concurrent_engine, lambda: dialogue(handler, talk))
    assert (got, answer) == (b"sorry", b"too late")


def test_a_timeout_bounds_a_send(concurrent_engine):
    async def handler(connection):
        with pytest.raises(TimeoutError):
            async with anysock.timeout(0.1):
                await connection.send_all(bytes(50_000_000))
        connection.abort()

    async def talk(connection):
        with pytest.raises(ConnectionResetError):
            await anysock.sleep(0.3)
            while await connection.recv():
                pass

    assert run(concurrent_engine, lambda: dialogue(handler, talk)) == [None, None]


def test_a_blocking_handler_may_use_timeouts_too(start_server, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import anysock\n"
        "async def patient(connection):\n"
        "    try:\n"
        "        async with anysock.timeout(0.1):\n"
        "            await connection.recv()\n"
        "    except TimeoutError:\n"
        "        await connection.send_all(b'too late')\n"
    )
    server = start_server("mine:patient", engine="blocking", cwd=tmp_path)
    with server.connect() as client:
        assert client.recv(100) == b"too late"


def test_spawned_tasks_run_beside_each_other(concurrent_engine):
    async def main():
        order = []
        event = current_engine().event()

        async def first():
            await event.wait()
            order.append("first")

        async def second():
            order.append("second")
            event.set()

        tasks = [anysock.spawn(first()), anysock.spawn(second())]
        for task in tasks:
            await task.join()
        assert all(task.done for task in tasks)
        return order

    assert run(concurrent_engine, main) == ["second", "first"]


def test_under_blocking_a_spawned_task_runs_now_and_to_its_end():
    async def main():
        order = []

        async def task():
            order.append("task")
            return "result"

        spawned = anysock.spawn(task())
        order.append("main")
        return order, spawned.done, await spawned.join()

    assert run("blocking", main) == (["task", "main"], True, "result")


def test_join_returns_or_raises(concurrent_engine):
    async def main():
        async def good():
            return "good"

        async def bad():
            await anysock.sleep(0.01)
            raise KeyError("bad")

        assert await anysock.spawn(good()).join() == "good"
        with pytest.raises(KeyError):
            await anysock.spawn(bad()).join()

    run(concurrent_engine, main)


def test_a_failed_task_that_nobody_joins_is_reported_at_once(engine, caplog):
    async def main():
        async def bad():
            raise ValueError("unseen")

        task = anysock.spawn(bad(), name="unlucky")
        while not task.done:
            await anysock.sleep(0.001)
        await anysock.sleep(0.01)

    with caplog.at_level(logging.ERROR, logger="anysock"):
        run(engine, main)
    assert [record.getMessage() for record in caplog.records] == ["task 'unlucky' failed"]
    caplog.clear()


def test_a_cancelled_task_cleans_up(concurrent_engine):
    async def main():
        cleaned = []

        async def worker():
            try:
                await anysock.sleep(60)
            finally:
                await anysock.sleep(0.01)
                cleaned.append("up")

        task = anysock.spawn(worker())
        await anysock.sleep(0.05)
        task.cancel()
        while not task.done:
            await anysock.sleep(0.005)
        return cleaned

    assert run(concurrent_engine, main) == ["up"]


def test_to_thread_does_not_block_the_others(concurrent_engine):
    async def main():
        here = threading.get_ident()
        ticks = 0

        async def ticker():
            nonlocal ticks
            while True:
                ticks += 1
                await anysock.sleep(0.005)

        task = anysock.spawn(ticker())
        there = await anysock.to_thread(slowly)
        task.cancel()
        with pytest.raises(ValueError, match="in the thread"):
            await anysock.to_thread(fail)
        return ticks, here != there

    def slowly():
        time.sleep(0.1)
        return threading.get_ident()

    def fail():
        raise ValueError("in the thread")

    ticks, elsewhere = run(concurrent_engine, main)
    assert ticks >= 3
    assert elsewhere or concurrent_engine == "threads"


def test_a_thread_that_is_given_up_disturbs_nobody(concurrent_engine, caplog):
    go_on, gone = threading.Event(), threading.Event()

    def slow():
        go_on.wait(10)
        gone.set()

    async def main():
        task = anysock.spawn(anysock.to_thread(slow))
        await anysock.sleep(0.01)
        task.cancel()
        go_on.set()  # under `threads`, the task itself waits for it

    run(concurrent_engine, main)
    assert gone.wait(10)
    assert not caplog.records


def test_connect_refused(engine):
    async def main():
        with pytest.raises(ConnectionRefusedError):
            await anysock.connect("127.0.0.1:1")

    run(engine, main)


def test_outside_of_an_engine_there_is_none():
    with pytest.raises(anysock.UsageError, match=r"call this inside anysock\.run"):
        anysock.spawn(anysock.sleep(0))
    with pytest.raises(anysock.UsageError, match="unknown engine"):
        anysock.run(None, engine="warp")  # type: ignore[arg-type]


# -- Server -------------------------------------------------------------------------------------


class Log(anysock.Events):
    """Notes what the server tells of itself."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def listening(self, addresses, engine):
        self.told.append(("listening", engine))

    def connection_opened(self, connection):
        self.told.append(("opened", connection.peer))

    def handler_failed(self, connection, error):
        self.told.append(("failed", type(error)))

    def connection_closed(self, connection, reason, error):
        self.told.append(("closed", reason))

    def drain_begun(self, connections, seconds):
        self.told.append(("draining", connections))

    def drained(self, aborted, seconds):
        self.told.append(("drained", aborted))


def test_each_connection_has_one_start_and_one_end_with_its_reason(concurrent_engine):
    async def handler(connection):
        word = await connection.recv()
        if word == b"fail":
            raise ValueError
        if word == b"abort":
            connection.abort()
            await connection.recv()
        await connection.send_all(word)

    async def main():
        log = Log()
        async with anysock.Server(handler, bind="127.0.0.1:0", events=log) as server:
            for word in (b"", b"hello", b"fail", b"abort"):
                async with await anysock.connect(server.addresses[0]) as connection:
                    if word:
                        await connection.send_all(word)
                    try:
                        await connection.send_eof()
                        assert await connection.recv() in (b"", word)
                    except ConnectionResetError:
                        assert word == b"abort"
            quiet = await anysock.connect(server.addresses[0])
            while quiet.local not in [connection.peer for connection in server.connections]:
                await anysock.sleep(0.005)
            assert await server.drain() == 0
            await quiet.close()
            assert server.connections == []
        return log.told, server.counters

    told, counters = run(concurrent_engine, main)
    reasons = [what for kind, what in told if kind == "closed"]
    why = anysock.CloseReason
    # Under `threads`, one thread may tell of its end after the next has told of its own.
    expected = [why.NO_DATA, why.DONE, why.FAILED, why.ABORTED, why.DRAINED]
    assert sorted(reasons, key=expected.index) == expected
    assert sum(1 for kind, _ in told if kind == "opened") == 5
    assert told[0] == ("listening", concurrent_engine)
    assert ("failed", ValueError) in told
    assert told[-1] == ("drained", 0)
    assert counters.accepted == 5
    assert counters.handler_failures == 1
    assert counters.closed[why.NO_DATA] == 1
    assert counters.bytes_received == len("hello") + len("fail") + len("abort")
    assert counters.bytes_sent == len("hello")


def test_a_handler_that_does_not_read_says_nothing_of_its_peer(concurrent_engine):
    """Its connection is done, and was not closed by the peer before its first byte: nobody knows
    what the peer was about to do."""

    async def returns(connection):
        pass

    async def main():
        async with anysock.Server(returns, bind="127.0.0.1:0") as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                assert await connection.recv() == b""
            await server.drain()
            return server.counters.closed

    closed = run(concurrent_engine, main)
    assert {reason: number for reason, number in closed.items() if number} == {
        anysock.CloseReason.DONE: 1
    }


def test_it_runs_in_an_asyncio_program_that_runs_already():
    """As in a test under pytest-asyncio: no engine was started, asyncio was."""

    async def main():
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:
            host, port = server.addresses[0].removeprefix("tcp://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"hello")
            answer = await reader.readexactly(5)
            writer.close()
            await writer.wait_closed()
        return answer

    assert asyncio.run(main(), debug=False) == b"hello"


def test_drain_may_be_called_by_many(concurrent_engine):
    async def main():
        async with anysock.Server("echo", bind="127.0.0.1:0") as server:
            tasks = [anysock.spawn(server.drain()) for _ in range(3)]
            return [await task.join() for task in tasks]

    assert run(concurrent_engine, main) == [0, 0, 0]


def test_blocking_cannot_serve_in_the_background_and_says_so():
    async def main():
        with pytest.raises(anysock.UsageError, match="one thing at a time"):
            async with anysock.Server("echo", bind="127.0.0.1:0"):
                pass

    run("blocking", main)


def test_options_come_as_keywords_or_as_an_object():
    options = anysock.ServeOptions(backlog=7)
    assert anysock.Server("echo", options).options is options
    assert anysock.Server("echo", backlog=7).options == options
    with pytest.raises(TypeError, match="not both"):
        anysock.Server("echo", options, backlog=7)
    with pytest.raises(TypeError, match="bcklog"):
        anysock.Server("echo", bcklog=7)  # type: ignore[call-arg]
    with pytest.raises(anysock.UsageError, match="unknown handler"):
        anysock.Server("nonsense")


def test_an_address_in_use_is_a_start_error(engine):
    async def main():
        first = anysock.Server("echo", bind="127.0.0.1:0")
        await first.start()
        with pytest.raises(anysock.StartError, match="Address already in use"):
            await anysock.Server("echo", bind=first.addresses[0]).start()
        await first.drain()

    run(engine, main)


def test_a_server_on_a_unix_socket_serves_and_ends(concurrent_engine, tmp_path):
    async def main():
        address = f"unix://{tmp_path}/socket"
        async with anysock.timeout(10), anysock.Server("echo", bind=address):
            async with await anysock.connect(address) as connection:
                await connection.send_all(b"hello")
                assert await connection.recv() == b"hello"
        with pytest.raises(FileNotFoundError):
            await anysock.connect(address)

    run(concurrent_engine, main)


@pytest.mark.parametrize("engine", ENGINES)
def test_serve_in_a_program_of_ones_own(engine, tmp_path):
    """The ten lines of the README: they log, they drain, they say how many were aborted."""
    program = textwrap.dedent(f"""
        import os, signal, threading
        import anysock

        async def shout(connection):
            async for line in connection.lines():
                await connection.send_all(line.upper())

        class Stop(anysock.Events):
            def listening(self, addresses, engine):
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

        before = signal.getsignal(signal.SIGTERM)
        aborted = anysock.serve(shout, bind="127.0.0.1:0", engine="{engine}", events=Stop())
        assert signal.getsignal(signal.SIGTERM) is before
        print("aborted:", aborted)
    """)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-bb", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "aborted: 0\n", done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_serve_may_run_on_another_thread():
    """Then there are no signals to catch, and who started it drains it."""
    servers: list[anysock.Server] = []
    ready = threading.Event()

    def serve():
        async def main():
            async with anysock.Server("echo", bind="127.0.0.1:0") as server:
                servers.append(server)
                ready.set()
                while not stop.is_set():
                    await anysock.sleep(0.005)

        anysock.run(main)

    stop = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)

    async def main():
        async with await anysock.connect(servers[0].addresses[0]) as connection:
            await connection.send_all(b"hello")
            return await connection.recv_exactly(5)

    assert anysock.run(main, engine="threads") == b"hello"
    stop.set()
    thread.join()


CTRL_C = """
import sys, anysock
async def child():
    try:
        await anysock.sleep(60)
    finally:
        await anysock.sleep(0)
        print("child cleaned up", flush=True)
async def main():
    if sys.argv[1] not in ("blocking", "threads"):
        anysock.spawn(child())
    try:
        await anysock.sleep(0)
        print("ready", flush=True)
        await anysock.sleep(60)
    finally:
        print("main cleaned up", flush=True)
try:
    anysock.run(main, engine=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_lets_everybody_clean_up(engine):
    program = [sys.executable, "-X", "dev", "-W", "error", "-c", CTRL_C, engine]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        told = process.stdout.read().splitlines()
        assert process.wait(timeout=20) == 0
    assert told[-1] == "interrupted"
    cleaned = {"main cleaned up"}
    if engine not in ("blocking", "threads"):
        cleaned.add("child cleaned up")
    assert set(told[:-1]) == cleaned


WAKEUP = """
import signal, sys, anysock
async def main():
    await anysock.sleep(0)
    print(signal.set_wakeup_fd(-1))
anysock.run(main, engine=sys.argv[1])
"""


def test_a_signal_wakes_a_loop_that_is_about_to_sleep(concurrent_engine):
    """A signal that comes between the interpreter's last look and the system call is not seen
    before that ends, unless the interpreter's C code has a descriptor to write to."""
    if concurrent_engine == "threads":
        pytest.skip("its tasks sleep in system calls, and have a thread that waits for signals")
    program = [sys.executable, "-X", "dev", "-W", "error", "-c", WAKEUP, concurrent_engine]
    assert int(subprocess.check_output(program, timeout=PATIENCE)) >= 0


def test_every_engine_is_concurrent_but_blocking():
    for name in ENGINES:
        engine = make_engine(name)
        assert engine.name == name
        assert engine.concurrent == (name in CONCURRENT_ENGINES)
        engine.run(anysock.sleep(0))
