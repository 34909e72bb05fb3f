"""What lives around the connections: the lifespan, background tasks, and what a connection knows of
itself and its server."""

from __future__ import annotations

import contextlib
import logging
import threading

import pytest

import anysock
from anysock import Server
from tests.contract.in_process.test_server_life import refused
from tests.harness import PATIENCE, free_port
from tests.told import Told


class Diary:
    """What happens, in its order; with a lifespan that writes into it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(self, server):
        self.lines.append("begins")
        try:
            yield self
        except BaseException as error:
            self.lines.append(f"is told of {type(error).__name__}")
            raise
        finally:
            await anysock.sleep(0)
            self.lines.append("ends")


async def note(connection):
    connection.state.lines.append("serves")
    await connection.send_all(await connection.recv_line())
    await connection.recv()
    connection.state.lines.append("has served")


async def asked(address):
    client = await anysock.connect(address)
    await client.send_all(b"hello\n")
    assert await client.recv_line() == b"hello\n"
    return client


def test_it_begins_before_the_first_connection_and_ends_after_the_last(concurrent_engine):
    diary = Diary()

    async def main():
        async with Server(
            note, lifespan=diary.lifespan, bind="127.0.0.1:0", drain_timeout=PATIENCE
        ) as server:
            assert server.state is diary
            client = await asked(server.addresses[0])
            assert server.connections[0].state is diary
            assert server.connections[0].server is server
        await client.close()

    anysock.run(main, engine=concurrent_engine)
    assert diary.lines == ["begins", "serves", "has served", "ends"]


def test_peers_wait_in_the_backlog_while_it_starts(concurrent_engine):
    async def main():
        may_start = anysock.Event()

        @contextlib.asynccontextmanager
        async def lifespan(server):
            assert server.unready == "starting"
            await may_start.wait()
            yield b"ready "

        async def handler(connection):
            await connection.send_all(connection.state)

        server = Server(handler, lifespan=lifespan, bind="127.0.0.1:0")
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        client = await anysock.connect(server.addresses[0])
        async with anysock.move_on_after(0.05) as scope:
            await client.recv()
        assert scope.fired
        may_start.set()
        assert await client.recv() == b"ready "
        assert server.unready is None
        server.request_end()
        await serving.join()
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_an_address_that_is_taken_is_found_before_it_begins(engine):
    diary = Diary()

    async def main():
        first = Server("echo", bind="127.0.0.1:0")
        await first.start()
        with pytest.raises(anysock.StartError, match="in use"):
            await Server("echo", bind=first.addresses[0], lifespan=diary.lifespan).serve_forever()
        await first.drain(0)

    anysock.run(main, engine=engine)
    assert diary.lines == []


def test_a_start_that_fails_is_one_line_and_nothing_listens(engine):
    address = f"127.0.0.1:{free_port()}"

    @contextlib.asynccontextmanager
    async def lifespan(server):
        server.spawn(anysock.sleep(PATIENCE))
        await anysock.sleep(0)
        raise KeyError("no database")
        yield

    async def main():
        server = Server("echo", lifespan=lifespan, bind=address)
        with pytest.raises(anysock.StartError) as caught:
            await server.serve_forever()
        assert str(caught.value).startswith(
            "the lifespan failed at its start: KeyError: 'no database' (test_lifespan.py:"
        )
        assert isinstance(caught.value.__cause__, KeyError)
        assert await refused(address)
        with pytest.raises(RuntimeError, match="make another"):
            await server.serve_forever()
        assert await server.drain() == 0

    anysock.run(main, engine=engine)


def test_a_start_error_of_its_own_is_told_as_it_is(concurrent_engine):
    @contextlib.asynccontextmanager
    async def lifespan(server):
        raise anysock.StartError("no database at 192.0.2.1")
        yield

    async def main():
        with pytest.raises(anysock.StartError, match=r"^no database at 192\.0\.2\.1$"):
            async with Server("echo", lifespan=lifespan, bind="127.0.0.1:0"):
                raise AssertionError("not reached")

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("how", ["drain", "end", "request_end"])
def test_a_server_that_ends_while_it_starts_cancels_it(concurrent_engine, how):
    told = []

    async def main():
        starts = anysock.Event()

        @contextlib.asynccontextmanager
        async def lifespan(server):
            try:
                starts.set()
                await anysock.sleep(PATIENCE * 10)
                yield
            except BaseException as error:
                told.append(error)
                raise

        server = Server(
            "echo",
            lifespan=lifespan,
            bind="127.0.0.1:0",
            drain_delay=PATIENCE,
            drain_timeout=2 * PATIENCE,
        )
        serving = anysock.spawn(server.serve_forever())
        await starts.wait()
        if how == "request_end":
            server.request_end()
        else:
            await getattr(server, how)()
        await serving.join()
        assert len(told) == 1
        assert not isinstance(told[0], Exception)

    anysock.run(main, engine=concurrent_engine)


def test_a_start_that_is_done_when_the_server_is_told_to_end_is_ended(concurrent_engine):
    diary = Diary()

    async def main():
        starts, go_on = anysock.Event(), anysock.Event()

        @contextlib.asynccontextmanager
        async def lifespan(server):
            starts.set()
            await go_on.wait()
            async with diary.lifespan(server):
                yield

        server = Server("echo", lifespan=lifespan, bind="127.0.0.1:0")
        serving = anysock.spawn(server.serve_forever())
        await starts.wait()
        go_on.set()
        await server.drain()  # before the start has gone on
        await serving.join()

    anysock.run(main, engine=concurrent_engine)
    # Where the cancellation overtakes it, it has not begun.
    assert diary.lines == [] or (diary.lines[0], diary.lines[-1]) == ("begins", "ends")


def test_one_that_fails_at_its_end_fails_when_all_are_drained(concurrent_engine):
    diary = Diary()

    @contextlib.asynccontextmanager
    async def lifespan(server):
        yield diary
        await anysock.sleep(0)
        raise OSError("the disk is full")

    async def main():
        server = Server(note, lifespan=lifespan, bind="127.0.0.1:0", drain_timeout=PATIENCE)
        with pytest.raises(anysock.LifespanFailed) as caught:
            async with server:
                client = await asked(server.addresses[0])
        assert "failed at its end: OSError: the disk is full (test_li" in str(caught.value)
        assert diary.lines == ["serves", "has served"]
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_it_is_told_when_the_server_is_cancelled_after_the_drain(concurrent_engine):
    diary = Diary()

    async def main():
        server = Server(note, lifespan=diary.lifespan, bind="127.0.0.1:0", drain_timeout=PATIENCE)
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        client = await asked(server.addresses[0])
        serving.cancel()
        with pytest.raises(anysock.Cancelled):
            await serving.join()
        await client.close()

    anysock.run(main, engine=concurrent_engine)
    assert diary.lines[:3] == ["begins", "serves", "has served"]
    assert diary.lines[3].startswith("is told of Cancelled")
    assert diary.lines[4:] == ["ends"]


def test_one_whose_task_group_fails_ends_the_server(concurrent_engine):
    async def main():
        fails = anysock.Event()

        async def falls_over():
            await fails.wait()
            raise ValueError("out of sync")

        @contextlib.asynccontextmanager
        async def lifespan(server):
            async with anysock.task_group() as group:
                group.spawn(falls_over())
                yield None

        server = Server("echo", lifespan=lifespan, bind="127.0.0.1:0", drain_timeout=PATIENCE)
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        client = await asked(server.addresses[0])
        fails.set()
        with pytest.raises(anysock.LifespanFailed, match="tasks of the group failed") as caught:
            await serving.join()
        group = caught.value.__cause__
        assert isinstance(group, ExceptionGroup)
        assert isinstance(group.exceptions[0], ValueError)
        assert await client.recv() == b"", "drained, and not reset"
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_a_handler_may_bring_its_lifespan():
    class Counts:
        def __init__(self) -> None:
            self.ended = False

        @contextlib.asynccontextmanager
        async def lifespan(self, server):
            yield self
            self.ended = True

        async def __call__(self, connection):
            assert connection.state is self
            await note_nothing(connection)

    async def note_nothing(connection):
        await connection.send_all(await connection.recv_line())

    counts = Counts()

    async def main():
        async with Server(counts, bind="127.0.0.1:0") as server:
            await (await asked(server.addresses[0])).close()

    anysock.run(main)
    assert counts.ended


# -- background tasks ----------------------------------------------------------------------------


def test_background_tasks_end_after_the_drain_and_before_the_lifespan(concurrent_engine):
    diary = Diary()

    async def works(name):
        try:
            await anysock.sleep(PATIENCE * 10)
        finally:
            await anysock.sleep(0.01)  # to clean up takes a moment
            diary.lines.append(f"{name} has ended")

    @contextlib.asynccontextmanager
    async def lifespan(server):
        async with diary.lifespan(server):
            server.spawn(works("the lifespan's"), "works")
            yield diary

    async def handler(connection):
        connection.server.spawn(works("the handler's"))
        await note(connection)

    async def main():
        async with Server(
            handler, lifespan=lifespan, bind="127.0.0.1:0", drain_timeout=PATIENCE
        ) as server:
            client = await asked(server.addresses[0])
        await client.close()
        late = anysock.sleep(0)
        with pytest.raises(anysock.UsageError, match="the server has ended: spawn"):
            server.spawn(late)
        early = anysock.sleep(0)
        with pytest.raises(anysock.UsageError, match="has not started"):
            Server("echo").spawn(early)

    anysock.run(main, engine=concurrent_engine)
    assert diary.lines[:3] == ["begins", "serves", "has served"]
    assert set(diary.lines[3:5]) == {"the lifespan's has ended", "the handler's has ended"}
    assert diary.lines[5:] == ["ends"]


def test_one_that_fails_is_told_at_once_and_the_server_goes_on(concurrent_engine, caplog):
    async def fails():
        raise ValueError("no such table")

    async def main():
        async with Server("echo", bind="127.0.0.1:0") as server:
            task = server.spawn(fails(), "refresh")
            while not task.done:
                await anysock.sleep(0.001)
            await (await asked(server.addresses[0])).close()

    with caplog.at_level(logging.ERROR):
        anysock.run(main, engine=concurrent_engine)
    told = [record for record in caplog.records if record.getMessage() == "task 'refresh' failed"]
    assert len(told) == 1
    assert "no such table" in str((told[0].exc_info and told[0].exc_info[1]) or caplog.text)


def test_a_background_task_has_a_result(concurrent_engine):
    async def number():
        return 42

    async def main():
        async with Server("echo", bind="127.0.0.1:0") as server:
            return await server.spawn(number()).join()

    assert anysock.run(main, engine=concurrent_engine) == 42


# -- what a connection knows ---------------------------------------------------------------------


def test_each_connection_has_an_id_of_its_own(concurrent_engine):
    seen = []

    async def handler(connection):
        seen.append(connection.id)
        await connection.send_all(await connection.recv_line())

    async def main():
        async with Server(handler, bind="127.0.0.1:0") as server:
            for _ in range(3):
                client = await asked(server.addresses[0])
                seen.append(client.id)
                with pytest.raises(anysock.UsageError, match="it has none"):
                    client.server  # noqa: B018
                assert client.state is None
                await client.close()

    anysock.run(main, engine=concurrent_engine)
    assert len(set(seen)) == 6


def test_the_log_of_a_connection_names_it(concurrent_engine, caplog):
    async def handler(connection):
        connection.log.info("says %s", "hello", extra={"more": 5})
        await anysock.spawn(of_the_handler()).join()
        await connection.server.spawn(of_the_server()).join()
        await connection.send_all(connection.id.encode() + await connection.recv_line())

    found: list[object] = []

    async def of_the_handler():
        connection = anysock.current_connection()
        assert connection is not None
        found.append(connection.id)

    async def of_the_server():
        found.append(anysock.current_connection())

    async def main():
        async with Server(handler, bind="127.0.0.1:0") as server:
            client = await anysock.connect(server.addresses[0])
            await client.send_all(b"\n")
            id = (await client.recv_line()).decode().strip()
            assert anysock.current_connection() is None
            local = client.local
            await client.close()
            return id, local

    with caplog.at_level(logging.INFO, "anysock.handler"):
        id, local = anysock.run(main, engine=concurrent_engine)
    (record,) = [each for each in caplog.records if each.name == "anysock.handler"]
    assert record.getMessage() == "says hello"
    fields = record.__dict__
    assert (fields["connection"], fields["peer"], fields["more"]) == (id, local, 5)
    assert found == [id, None]


# -- request_end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["in the handler", "on another thread"])
def test_a_handler_tells_the_server_to_end_and_goes_on(concurrent_engine, where):
    async def handler(connection):
        while line := await connection.recv_line():
            if line == b"end\n":
                if where == "in the handler":
                    connection.server.request_end()
                else:
                    other = threading.Thread(target=connection.server.request_end)
                    other.start()
                    await anysock.to_thread(other.join)
                connection.server.request_end()  # again
            await connection.send_all(line)

    async def main():
        server = Server(handler, bind="127.0.0.1:0", drain_timeout=PATIENCE)
        with pytest.raises(anysock.UsageError, match="has not started"):
            server.request_end()
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        client = await asked(server.addresses[0])
        await client.send_all(b"end\n")
        assert await client.recv_line() == b"end\n"
        assert await client.recv() == b"", "it was drained"
        await serving.join()
        assert server.aborted == 0
        server.request_end()  # it has ended
        await client.close()

    anysock.run(main, engine=concurrent_engine)


def test_the_delay_before_the_drain_is_kept(concurrent_engine):
    told = Told()

    async def main():
        server = Server(
            "echo", bind="127.0.0.1:0", events=told, drain_delay=0.02, drain_timeout=PATIENCE
        )
        await server.start()
        serving = anysock.spawn(server.serve_forever())
        await (await asked(server.addresses[0])).close()
        server.request_end()
        await serving.join()

    anysock.run(main, engine=concurrent_engine)
    names = [name for name, _ in told.events]
    assert told.of("drain_delayed") == [(0.02,)]
    assert names.index("drain_delayed") < names.index("drain_begun") < names.index("drained")
